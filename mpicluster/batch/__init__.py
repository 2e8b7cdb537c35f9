"""Batch systems: what is asked of one becomes a script, which is submitted, looked after, and cancelled.

::

    request     what is asked, whatever the system        a value
    template    a file of launchers/, and what fills it   text in, text out
    system      what all batch systems have in common     words of a request -> directives; the system's commands
    slurm, pbs, lsf, sge, htcondor, local                 each one's own words, states and commands
    systems     which there are
    jobs        what was submitted: files, and how it is
"""
