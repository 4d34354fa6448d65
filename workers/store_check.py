"""Whether the store can be used from this worker: a store that fails ends no training, so nobody would hear of it."""

import logging
import threading
import time

from jobs import logs
from jobs.errors import StoreError
from jobs.settings import Settings
from jobs.store import Store
from workers.troubles import Troubles

logger = logging.getLogger(__name__)

KIND = "store"
EVERY_SECONDS = 300.0  # a disk may fill up while the worker works
AGAIN_SECONDS = 60.0  # while it fails
TOLD = "the store cannot be used, so no checkpoint is written, and no large model"


class StoreCheck:
    """A thread that tries the store when the worker starts, and now and then. One that hangs holds nothing else up."""

    def __init__(self, settings: Settings, troubles: Troubles) -> None:
        self._url, self._troubles = settings.store_url, troubles
        self._failing = logs.Trouble(logger, TOLD, over="the store can be used again")

    def start(self) -> None:
        threading.Thread(target=self._run, name="store", daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(EVERY_SECONDS if self.try_once() else AGAIN_SECONDS)

    def try_once(self) -> bool:
        """Whether it can be used; if not, that is said."""
        try:
            Store(self._url).try_out()
        except (StoreError, OSError) as error:  # OSError: of a path that leads in circles
            self._failing.met(error)
            self._troubles.met(KIND, f"{TOLD}: {error}")
            return False
        self._failing.gone()
        self._troubles.gone(KIND)
        return True
