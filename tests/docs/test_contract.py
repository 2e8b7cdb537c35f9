"""The page for those who come from IPython Parallel has every name that they may know, and what it promises is tried."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest
from tried import TRIED

import mpicluster

TESTS = Path(__file__).parent.parent
PAGE = (Path(mpicluster.__file__).parent.parent / "docs" / "coming-from-ipyparallel.md").read_text()

#: of IPython Parallel 9.2, by where they are found
NAMES = {
    "top level": """Client Cluster ClusterManager DirectView LoadBalancedView BroadcastView ViewExecutor AsyncResult AsyncMapResult
        AsyncHubResult RemoteFunction ParallelFunction remote parallel interactive require depend dependent Dependency
        Reference PrePickled can uncan can_map uncan_map use_dill use_cloudpickle use_pickle serialize_object
        deserialize_object pack_apply_message unpack_apply_message bind_kernel register_joblib_backend ALL_COMPLETED
        FIRST_COMPLETED FIRST_EXCEPTION version_info __version__""",
    "client": """connection_info url_file url_or_file profile profile_dir ipython_dir context debug sshserver sshkey password
        paramiko timeout cluster_id cluster extra_args ids block history outstanding results metadata session
        curve_serverkey direct_view load_balanced_view broadcast_view executor activate wait_for_engines wait
        wait_interactive get_result result_status queue_status resubmit abort clear send_signal shutdown
        purge_local_results purge_hub_results purge_results purge_everything hub_history db_query become_dask stop_dask
        become_distributed stop_distributed close spin spin_thread stop_spin_thread send_apply_request
        send_execute_request create_message_futures Metadata ExecuteReply is_broadcast is_coalescing""",
    "views": """track targets label follow after timeout retries apply apply_async apply_sync map map_async map_sync imap
        set_flags temp_flags execute run push update pull get scatter gather sync_imports importer return_exceptions
        chunksize ordered max_outstanding LazyMapIterator""",
    "results": """get r result exception done add_done_callback running cancelled cancel ready successful return_when
        wait_for_output wait_for_send sent get_dict result_dict progress elapsed serial_time wall_time timedelta msg_ids
        stdout stderr outputs execute_result execute_input error engine_id engine_uuid started completed submitted
        received status data display_outputs stream_output split join owner""",
    "dependencies": "check unreachable as_dict",
    "magics": """%px %%px %autopx %pxresult %result %pxconfig --stream --no-stream --verbose --no-verbose --progress-after
        --signal-on-interrupt --group-outputs --out --local IPP_NONINTERACTIVE""",
    "cluster": """engines controller engine_timeout send_engines_connection_env controller_args controller_ip controller_location
        delay shutdown_atexit load_profile log_level config parent start_controller start_engines start_cluster
        start_and_connect connect_client stop_engines stop_controller stop_cluster restart_engines signal_engines
        stop_engine restart_engine signal_engine from_file from_dict to_dict write_cluster_file update_cluster_file
        remove_cluster_file engine_set get_output load_clusters new_cluster get_cluster remove_cluster
        clean_cluster_files""",
    "hub": """DictDB SQLiteDB MongoDB NoDB $lt $gt $eq $ne $lte $gte $in $nin $all $mod $exists $glob queue_request
        result_request history_request db_request purge_request load_request resubmit_request shutdown_request
        registration_request unregistration_request connection_request become_dask_request stop_distributed_request
        HeartMonitor""",
    "errors": """IPythonError KernelError EngineError NoEnginesRegistered TaskAborted TaskTimeout TaskRejectError UnmetDependency
        ImpossibleDependency DependencyTimeout InvalidDependency RemoteError CompositeError AlreadyDisplayedError
        TimeoutError ename evalue traceback engine_info render_traceback print_traceback elist tb_limit raise_exception""",
}


def rows() -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| ") and "---" not in line
    ]


@pytest.mark.parametrize("part", sorted(NAMES))
def test_every_name_is_there(part):
    named = " ".join(code for row in rows() for code in re.findall(r"`([^`]+)`", row[0]))
    words = set(re.split(r"[\s,()\[\]=.:\"]+", named)) | {w.lstrip("@") for w in named.split()}
    assert [name for name in NAMES[part].split() if name not in words] == []


def test_every_row_has_its_verdict():
    for name, verdict, *why in rows():
        assert verdict in ("same", "better", "new", "gone", ""), name
        if verdict == "gone":
            assert why[0], f"{name} is gone, and nobody says why"


#: what a row says besides names of this package, and names of what is otherwise here
ELSEWHERE = set(
    """ar async await for in with as r rc view n x a b name lambda None _sync connection_info cluster_file lru twobin plainrandom linger
    DictDB SQLiteDB MongoDB NoDB HeartMonitor max_heartmonitor_misses max_heartbeat_misses""".split()
)


def promised() -> dict[tuple[str, str], str]:
    """The rows that are not gone, by section and first words."""
    section, found = "", {}
    for line in PAGE.splitlines():
        if line.startswith(("## ", "**")):
            section = line.strip("#* ")
        elif line.startswith("| ") and "---" not in line:
            name, verdict = (cell.strip() for cell in line.strip("|").split("|")[:2])
            if verdict in ("same", "better", "new"):
                first = re.match(r"`@?([\w$%-]+(?:\.\w+)*)", name)
                found[section, first[1] if first else name.split(":")[0].replace("`", "")] = name
    return found


@functools.cache
def words_of_tests(path: Path) -> dict[str, set[str]]:
    """All names, keywords and words of texts in each test of a file, and in the constants of the file that it uses."""

    def words(node: ast.AST) -> set[str]:
        said = set()
        for x in ast.walk(node):
            said |= {getattr(x, field) for field in ("attr", "id", "arg") if isinstance(getattr(x, field, None), str)}
            if isinstance(x, ast.Constant) and isinstance(x.value, str):
                said |= set(re.findall(r"[$%\w-]+", x.value))
        return said

    tree = ast.parse(path.read_text())
    constants = {t.id: words(n.value) for n in tree.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
    fixtures = {n.name: words(n) for n in tree.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("test_")}
    found = {}
    for test in tree.body:
        if isinstance(test, ast.FunctionDef | ast.AsyncFunctionDef) and test.name.startswith("test_"):
            said = words(test)
            found[test.name] = said.union(*(more for name, more in (constants | fixtures).items() if name in said))
    return found


def words_for(section: str, row: str) -> set[str]:
    """The words of all tests of a row."""
    said: set[str] = set()
    for part in TRIED[section][row].split(";"):
        place, names = part.strip().split(": ")
        folder, _, file = place.rpartition("/")
        known = words_of_tests(TESTS / folder / f"test_{file}.py")
        for name in names.split():
            assert f"test_{name}" in known, f"{place} has no test of that name: {name}"
            said |= known[f"test_{name}"]
    return said


def test_every_row_has_tests():
    assert sorted((section, row) for section, rows in TRIED.items() for row in rows) == sorted(promised())


@pytest.mark.parametrize(("section", "row"), promised(), ids=map(": ".join, promised()))
def test_a_row_is_tried_by_its_names(section, row):
    said = words_for(section, row)
    names = {w for code in re.findall(r"`([^`]+)`", promised()[section, row]) for w in re.split(r"[\s,()\[\]=.:\"@]+", code)}
    assert [n for n in names - ELSEWHERE if n and not n.isdigit() and n not in said and n.strip("%-").replace("-", "_") not in said] == []
