"""A signal ends a search even where Python drops what its handler raises."""

import os
import signal

import pytest

from search.stopping import Stopped, stoppable


class Dropping:
    """Is told to stop while it is removed, where nothing that is raised is heard."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):
            pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("dropped", [False, True])
def test_a_signal_is_heard_wherever_it_comes(dropped: bool) -> None:
    told: list[int] = []
    before = signal.getsignal(signal.SIGTERM)

    def search() -> None:
        with stoppable(told):
            if dropped:
                Dropping()
                assert told == [signal.SIGTERM]
            else:
                os.kill(os.getpid(), signal.SIGTERM)
                raise AssertionError

    with pytest.raises(Stopped) as ended:
        search()
    assert ended.value.number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before
