"""Memory and CPU of every process of a tree while photos go through it, and how memory grows with their number."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import psutil  # type: ignore[import-untyped]

_WARM_UP = 0.2  # share of the photos before which caches, pools and allocators fill
_PRESENT = 0.8  # share of the looks at which a process must have lived to have a slope
_LEAST = 5  # looks; a line through fewer says nothing


@dataclass
class Life:
    """One process: at each look the photos `done` by all, its resident memory and the private part of it, in MB."""

    role: str
    done: list[int] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    private_mb: list[float] = field(default_factory=list)
    cpu_s: float = 0.0  # since the first look
    cpu_before_s: float = 0.0

    def slope(self, total: int, looks: int, *, private: bool = False) -> float | None:
        """MB for 1,000 photos, by least squares over what came after the warm-up; None without enough looks."""
        values = self.private_mb if private else self.rss_mb
        late = [(done, mb) for done, mb in zip(self.done, values, strict=True) if done >= _WARM_UP * total]
        if len(late) < _LEAST or len(self.done) < _PRESENT * looks or len({done for done, _ in late}) < 2:
            return None
        photos, mb = zip(*late, strict=True)
        return float(np.polyfit(np.array(photos) / 1000, np.array(mb), 1)[0])


class Lives:
    """All processes under `pid`, as `look` finds them."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._by_process: dict[tuple[int, float], Life] = {}
        self.looks = 0

    def look(self, done: int) -> None:
        self.looks += 1
        for process in self._tree():
            try:
                key = process.pid, process.create_time()
                memory, times = process.memory_info(), process.cpu_times()
                life = self._by_process.get(key)
                if life is None:
                    began = times.user + times.system if self.looks == 1 else 0.0
                    life = self._by_process[key] = Life(role_of(process.cmdline()), cpu_before_s=began)
            except psutil.Error:  # ended between two lines
                continue
            life.done.append(done)
            life.rss_mb.append(memory.rss / 1e6)
            life.private_mb.append((memory.rss - memory.shared) / 1e6)
            life.cpu_s = times.user + times.system - life.cpu_before_s

    def lives(self) -> list[Life]:
        """The busiest first."""
        return sorted(self._by_process.values(), key=lambda life: -life.cpu_s)

    def _tree(self) -> list[psutil.Process]:
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def role_of(command: list[str]) -> str:
    """A short name of what a process does: `Compose` of `ray::ServeReplica:mattehorn:Compose`, else its program."""
    text = " ".join(command)
    if "ray::" in text:
        title = text.partition("ray::")[2].split(" ")[0]
        return title.split(":")[-1].split(".")[0] if title.startswith("ServeReplica:") else title.split(".")[0]
    if "-m" in command and command.index("-m") + 1 < len(command):
        return command[command.index("-m") + 1]
    scripts = [part for part in command[1:3] if part.endswith(".py")]
    program = (scripts or command or ["?"])[0].rpartition("/")[2]
    return program if "submit" not in command else "mattehorn submit"
