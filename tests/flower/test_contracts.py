"""What we rely on in flwr 1.41 beyond its public interface. If one fails, read flwr's new source."""

from __future__ import annotations

import importlib
import inspect
import time
from importlib.metadata import version

import numpy as np
import pytest
from flwr.supercore.inflatable.inflatable_utils import ObjectUnavailableError

from consilium.contracts.envelope import Envelope
from consilium.errors import InputError
from consilium.flower.messages import from_records, to_records
from consilium.flower.waits import shorten


def test_the_version_is_the_pinned_one() -> None:
    assert version("flwr").startswith("1.41.")


def test_the_supernode_sleeps_through_its_module_global() -> None:
    from flwr.supernode import start_client_internal

    source = inspect.getsource(start_client_internal)
    assert "import time\n" in source
    assert "time.sleep(3)" in source
    assert "time.sleep(0.5)" in source


@pytest.mark.parametrize("name", ["flwr.supernode.start_client_internal", "flwr.superlink.grid.http_grid"])
def test_pulls_of_objects_are_read_from_a_module_global_and_wait_as_told(name: str) -> None:
    module = importlib.import_module(name)
    stock = module.pull_objects
    tries = []

    def late(_: str) -> bytes:
        tries.append(time.monotonic())
        if len(tries) < 3:
            raise ObjectUnavailableError("object")
        return b"content"

    try:
        shorten(module)
        shorten(module)
        assert "pull_objects(" in inspect.getsource(module)
        assert module.pull_objects(["object"], late) == {"object": b"content"}
    finally:
        module.pull_objects = stock
    assert tries[2] - tries[0] < 0.5, "flwr itself waits 1 s and 2 s"


def test_the_runtime_client_and_task_functions_have_the_shape_that_the_relay_uses() -> None:
    from flwr.supercore.constant import TaskType
    from flwr.supercore.interceptors import SuperExecAuthHttpInterceptor
    from flwr.supercore.runtime import RuntimeHttpClient
    from flwr.supernode.runtime import run_clientapp

    assert TaskType.CLIENT_APP
    assert {"server_address", "insecure", "root_certificates", "interceptors"} <= set(
        inspect.signature(RuntimeHttpClient.from_server_address).parameters
    )
    assert {"master_secret", "protected_methods"} <= set(
        inspect.signature(SuperExecAuthHttpInterceptor.__init__).parameters
    )
    from flwr.supercore.inflatable import inflatable_utils

    pull = inflatable_utils.pull_and_inflate_object_from_tree
    assert "max_time" in inspect.signature(pull).parameters
    assert hasattr(run_clientapp, "pull_and_inflate_object_from_tree")
    assert issubclass(inflatable_utils.ObjectPullError, Exception)
    assert list(inspect.signature(run_clientapp.pull_task_input).parameters) == ["client"]
    assert list(inspect.signature(run_clientapp.push_message).parameters) == ["client", "message", "context"]
    assert list(inspect.signature(run_clientapp.push_task_output).parameters) == [
        "client",
        "context",
        "sub_status",
        "details",
    ]


def test_envelopes_survive_flower_records() -> None:
    arrays = {
        "sum": np.arange(7, dtype=np.uint32),
        "model": np.linspace(0, 1, 5, dtype=np.float32),
        "initial": np.arange(9, dtype=np.uint8),
    }
    back = from_records(to_records(Envelope('{"a": 1}', arrays)))
    assert back.header == '{"a": 1}'
    assert all(np.array_equal(back.arrays[name], array) for name, array in arrays.items())


def test_foreign_records_are_refused() -> None:
    from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

    with pytest.raises(InputError, match="missing"):
        from_records(RecordDict({"header": ConfigRecord({"json": "{}"})}))
    pickled = Array(dtype="float64", shape=(1,), stype="numpy.ndarray", data=b"12345678")
    with pytest.raises(InputError, match="type"):
        from_records(
            RecordDict({"header": ConfigRecord({"json": "{}"}), "arrays": ArrayRecord({"x": pickled})})
        )
    short = Array(dtype="float32", shape=(4,), stype="consilium.raw", data=b"1234")
    with pytest.raises(InputError, match="shape"):
        from_records(
            RecordDict({"header": ConfigRecord({"json": "{}"}), "arrays": ArrayRecord({"x": short})})
        )
