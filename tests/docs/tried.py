"""Which tests try each row of the page for those who come from IPython Parallel: by section, and by the first words of the row."""

# ruff: noqa: E501 - a table

from __future__ import annotations

#: ``folder/test_file.py`` without ``test_`` and ``.py``, then tests of it without ``test_``
TRIED = {
    "Top level": {
        "Client": "live/views: a_client_by_the_words_of_ipython_parallel a_broadcast_view_is_a_direct_view views_made_with_flags;"
        " cluster/cluster_live: a_with_block_gives_a_client_of_all_engines; live/promises: what_calls_and_views_are",
        "ViewExecutor": "live/promises: what_calls_and_views_are",
        "AsyncResult": "live/promises: what_calls_and_views_are; live/remembering: get_result_of_another_client; live/results: results_are_awaited",
        "RemoteFunction": "live/promises: what_calls_and_views_are; live/views: remote_functions parallel_functions_of_a_balanced_view",
        "interactive": "live/views: interactive_functions_use_the_engines_names; serial/dependent: an_interactive_function_sees_the_namespace_even_as_a_closure",
        "require": "live/views: required_modules_and_names a_direct_call_where_a_dependency_is_not_met; serial/dependent: names_of_the_package",
        "Dependency": "client/dependency: a_dependency_is_a_set_with_an_opinion; live/views: references_are_looked_up_on_each_engine"
        " an_object_that_was_pickled_before",
        "use_dill": "live/views: pickles_need_no_choice",
        "register_joblib_backend": "live/joblib: the_backend_of_the_default_cluster",
        "ALL_COMPLETED": "live/views: waiting_for_the_first_part; names: a_name_of_ipython_parallel_is_here",
        "version_info": "names: a_name_of_ipython_parallel_is_here",
        "error": "names: errors_by_both_of_their_modules error_is_there_without_being_imported",
    },
    "Client": {
        "Client": "live/promises: a_client_of_a_file_or_its_content",
        "profile": "client/finding: a_cluster_is_found_in_every_way; live/views: a_client_by_the_words_of_ipython_parallel; live/work: no_cluster",
        "url_file": "client/finding: a_cluster_is_found_in_every_way nothing_is_ignored",
        "activation of %px by the first client": "live/magics: the_first_client_activates_itself the_extension_uses_the_client_there_is",
        "Client.connect": "live/asyncio: connecting_in_a_loop",
        "ids": "live/promises: a_client_is_a_container; live/direct: views_take_the_block_flag_of_their_client",
        "history": "live/remembering: history_has_the_ids_of_a_clients_tasks_in_order; live/views: what_is_under_way_is_known_by_id;"
        " live/promises: results_and_metadata_by_id",
        "direct_view": "live/promises: what_calls_and_views_are; live/views: views_made_with_flags",
        "executor": "live/promises: what_calls_and_views_are; live/executor: submit",
        "activate": "live/magics: several_views_have_suffixes",
        "wait_for_engines": "live/views: waiting_for_engines_without_waiting; live/cells: waiting_for_engines_that_are_there_shows_nothing",
        "wait": "live/results: wait_of_a_client_and_of_a_view; live/cells: bars_of_several_results",
        "get_result": "live/remembering: get_result_of_another_client get_result_of_what_is_under_way get_result_of_ones_own",
        "result_status": "live/remembering: result_status_tells_pending_from_completed queue_status hub_history_has_those_of_all_clients"
        " resubmit_runs_tasks_again_whoever_submitted_them",
        "db_query": "live/remembering: db_query_by_several_fields_and_moments db_query_refuses_nonsense",
        "abort": "live/views: queued_work_is_taken_back; live/promises: abort_of_a_client",
        "clear": "live/direct: clear_leaves_the_engines_own_names; live/promises: abort_of_a_client",
        "send_signal": "live/interrupts: send_signal_interrupts other_signals_do_what_they_do",
        "shutdown": "live/views: a_part_of_the_engines_cannot_be_stopped; live/promises: shutdown_ends_all",
        "purge_local_results": "live/remembering: purge_hub_results_of_jobs_and_engines purge_refuses_what_is_under_way",
        "become_dask": "live/dask: dask_beside_mpicluster a_worker_may_be_a_process_of_its_own",
        "close": "live/errors: a_closed_client_says_so; live/leaving: what_was_submitted_is_done_after_the_client_has_left",
        "spin": "live/views: spinning_does_nothing",
        "Metadata": "live/promises: metadata_by_key_and_by_attribute",
        "ExecuteReply": "live/cells: a_reply_for_each_engine a_reply_displays_itself; live/promises: metadata_by_key_and_by_attribute",
    },
    "Views": {
        "block": "client/flags: all_flags_of_a_balanced_view_go_to_the_hub; live/views: views_made_with_flags arguments_in_the_order_of_ipython_parallel;"
        " live/terms: a_task_that_does_not_begin_in_time_fails; live/work: targets_and_retries",
        "priority": "live/terms: what_is_more_important_goes_first a_task_that_runs_too_long_is_ended",
        "apply": "live/direct: apply_obeys_the_block_flag_and_its_two_forms_do_not",
        "map": "live/direct: map_takes_what_pythons_map_takes; live/work: balanced_map direct_map imap_takes_no_more_than_it_needs;"
        " live/promises: every_kind_of_map",
        "set_flags": "client/flags: temporary_flags_end_with_the_block an_unknown_flag_is_a_key_error_with_a_plain_text"
        " no_thread_sees_the_temporary_flags_of_another; live/views: views_made_with_flags",
        "wait": "live/results: wait_of_a_client_and_of_a_view; live/views: queued_work_is_taken_back spinning_does_nothing"
        " a_part_of_the_engines_cannot_be_stopped; live/promises: a_view_asks_for_its_own",
        "history": "live/promises: a_view_asks_for_its_own; live/views: what_is_under_way_is_known_by_id",
        "remote": "live/views: remote_functions parallel_functions_of_a_balanced_view",
        "executor": "live/executor: submit map_on_a_direct_view_divides_the_items",
    },
    "Direct views": {
        "map": "live/direct: map_gives_each_engine_one_contiguous_part map_of_rows; live/promises: every_kind_of_map",
        "execute": "live/direct: execute_runs_magics_loops_and_definitions run_sends_a_script_and_misses_none",
        "push": "live/direct: push_and_pull_follow_dots names_are_set_and_read_like_a_dict; live/promises: names_of_engines",
        "pull": "live/direct: push_and_pull_follow_dots; live/promises: names_of_engines",
        "scatter": "live/collectives: an_array_comes_back_from_a_scatter sequences_come_back",
        "gather": "live/collectives: an_array_comes_back_from_a_scatter; live/data: a_dtype_survives_scatter_and_gather",
        "reduce": "live/collectives: reduce_is_numpys reduce_by_bits",
        "spmd": "live/spmd: as_a_decorator a_gang_has_a_communicator_of_exactly_its_engines one_raises_and_the_others_are_freed",
        "clear": "live/direct: clear_leaves_the_engines_own_names",
        "sync_imports": "live/direct: sync_imports_keep_aliases sync_imports_of_what_is_missing_there_or_here; live/views: imports_by_a_property",
        "use_dill": "live/views: pickles_need_no_choice",
        "activate": "live/magics: views_activate_themselves",
        "views of a dead engine": "live/direct: all_follows_the_cluster_and_a_slice_does_not",
    },
    "Broadcast views": {
        "BroadcastView": "live/views: a_broadcast_view_is_a_direct_view; live/broadcast: each_answer_keeps_its_place_and_all_that_is_known_of_it"
        " it_is_remembered_by_the_hub",
        "execute": "live/broadcast: code_and_names; live/promises: labels_and_data_of_a_broadcast_view",
    },
    "Load-balanced views": {
        "map": "live/work: balanced_map; live/views: failures_of_a_map_as_values; client/flags: a_label_may_be_given_with_one_call",
        "imap": "live/work: imap_takes_no_more_than_it_needs; live/views: an_endless_map_is_ended_by_another_thread;"
        " live/balanced: an_endless_imap_may_be_left; live/promises: every_kind_of_map",
        "follow": "live/terms: a_task_begins_after_another a_task_runs_where_another_has_run what_waits_for_a_failure",
        "schemes": "hub/balance: round_robin_serves_engines_in_turn random_schemes_serve_all the_weighted_scheme_prefers_those_with_less"
        " idle_engines_come_first a_scheme_that_does_not_exist",
        "register_joblib_backend": "live/joblib: calls_run_on_the_engines",
    },
    "Results": {
        "get": "live/results: results_are_futures waiting_ends_with_the_result callbacks_may_wait_for_other_results_and_fail;"
        " live/promises: a_result_in_every_way",
        "await": "live/results: results_are_awaited; live/asyncio: iteration_over_a_map",
        "return_exceptions": "live/views: failures_of_a_map_as_values failures_of_a_call_as_values",
        "return_when": "live/views: waiting_for_the_first_failure waiting_for_the_first_part",
        "running": "live/results: cancelling_tells_the_truth; live/promises: running_and_cancelled",
        "cancel": "live/results: cancelling_tells_the_truth; live/promises: running_and_cancelled",
        "abort": "live/results: abort_is_cancel_but_an_error_when_it_is_done",
        "interrupt": "live/interrupts: interrupt_of_a_running_task interrupt_while_all_wait_in_mpi",
        "ready": "live/results: waiting_ends_with_the_result a_failed_result_is_done_but_not_successful",
        "wait_for_output": "live/views: words_of_a_result; live/output: output_is_complete_when_the_result_is_there",
        "wait_for_send": "live/views: words_of_a_result arguments_in_the_order_of_ipython_parallel",
        "wait_interactive": "live/cells: a_bar_counts_items; live/results: results_come_as_they_come; live/promises: a_result_in_every_way",
        "get_dict": "live/results: dicts_of_results; live/promises: names_of_engines",
        "elapsed": "live/results: times_are_in_order; live/views: words_of_a_result",
        "metadata": "live/promises: all_that_is_known_of_a_result",
        "ar": "live/results: parts_by_index iteration_over_one_value",
        "display_outputs": "live/cells: results_alone nothing_of_a_stream_is_lost_or_shown_twice",
        "split": "live/views: results_are_split_and_joined words_of_a_result",
        "AsyncMapResult.ordered": "live/promises: what_calls_and_views_are every_kind_of_map",
    },
    "Decorators and dependencies": {
        "remote": "live/views: remote_functions parallel_functions_of_arrays a_round_robin_map_keeps_the_order",
        "require": "live/views: required_modules_and_names a_direct_call_where_a_dependency_is_not_met; serial/dependent: names_of_the_package",
        "interactive": "serial/dependent: an_interactive_function_sees_the_namespace_even_as_a_closure",
        "Dependency": "client/dependency: when_a_dependency_is_met_and_when_it_cannot_be a_dependency_is_a_set_with_an_opinion",
        "Reference": "live/views: references_are_looked_up_on_each_engine a_reference_that_leads_nowhere",
        "PrePickled": "live/views: an_object_that_was_pickled_before",
    },
    "Executors, joblib, dask": {
        "submit": "live/executor: submit many_threads_submit",
        "map": "live/executor: map a_map_that_takes_too_long leaving_a_map_takes_back_the_rest",
        "shutdown": "live/executor: shutdown shutdown_may_cancel",
        "with": "live/executor: map_on_a_direct_view_divides_the_items an_error_in_the_block_is_the_callers",
        "mpicluster.register_joblib_backend": "live/joblib: the_backend_of_the_default_cluster; live/promises: joblibs_default_backend",
        "view.register_joblib_backend": "live/joblib: calls_run_on_the_engines; live/promises: joblibs_default_backend",
        "become_dask": "live/dask: dask_beside_mpicluster calling_it_twice",
        "stop_dask": "live/dask: dask_beside_mpicluster calling_it_twice",
    },
    "Magics": {
        "%px": "live/magics: px_runs_on_all_engines_and_shows_labelled_output autopx_sends_every_cell_away several_views_have_suffixes"
        " pxconfig_sets_defaults without_waiting_the_result_comes_back options_have_short_and_long_names",
        "-b": "live/magics: options_have_short_and_long_names pxconfig_sets_defaults not_streamed_output_comes_at_the_end"
        " targets_are_never_evaluated interrupting_a_cell_interrupts_the_engines",
        "-r": "live/magics: output_is_grouped a_local_cell_runs_here_too without_waiting_the_result_comes_back options_have_short_and_long_names",
        "IPP_NONINTERACTIVE": "live/magics: nobody_looks_on",
    },
    "Cluster": {
        "Cluster": "cluster/cluster_live: by_the_names_of_ipython_parallel_awaited",
        "start_cluster": "cluster/cluster_live: it_starts_and_stops_by_ipython_parallels_names by_the_names_of_ipython_parallel_awaited",
        "with": "cluster/cluster_live: a_with_block_gives_a_client_of_all_engines async_with",
    },
    "History": {
        "DictDB": "live/remembering: history_can_be_off_or_small a_full_disk_stops_history_and_not_the_cluster",
        "fields of a record": "hub/history: a_record_says_all_that_is_known; live/remembering: db_query_knows_what_a_task_wrote_and_a_cell_said",
        "$lt": "hub/query: each_operator the_operators_are_those_of_the_contract",
        "HeartMonitor": "live/faults: killing_engines_during_a_map_loses_no_task a_dead_hub_ends_every_wait",
        "engine id": "live/promises: an_engines_id_is_its_rank",
    },
    "Errors": {
        "IPythonError": "names: errors_by_both_of_their_modules",
        "EngineError": "client/reply: an_outcome_has_its_error; names: a_name_of_ipython_parallel_is_here errors_by_both_of_their_modules",
        "RemoteError": "live/promises: a_remote_error_by_its_parts; live/errors: a_remote_type_is_kept",
        "CompositeError": "live/promises: a_composite_error_by_its_parts; live/errors: several_failures_are_one_error",
        "AlreadyDisplayedError": "live/magics: a_streamed_failure_is_shown_once",
        "FlagError": "client/flags: an_unknown_flag_is_a_key_error_with_a_plain_text; live/scheduling: wrong_flags_are_told_before_anything_is_sent",
        "TimeoutError": "live/promises: a_result_in_every_way",
    },
}
