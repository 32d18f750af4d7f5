"""The jars of Apache Kafka, exactly those whose SHA-256 sums are in `jgo.lock.toml`."""

import fcntl
import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jgo.env import EnvironmentSpec, LockedDependency, LockFile
from jgo.maven import MavenContext

from infra.local.processes import LocalServerError

HERE = Path(__file__).parent
SPEC_PATH = HERE / "jgo.toml"
LOCK_PATH = HERE / "jgo.lock.toml"
DOWNLOADS_AT_ONCE = 6
DOWNLOAD_TIMEOUT_SECONDS = 60


class JarMismatch(RuntimeError):
    """A jar is not the one that the lock names."""


def locked_jars(cache: Path) -> list[Path]:
    """Every jar of the lock is in the cache and has the sum that the lock gives.

    Only what is missing is fetched, straight by coordinate: nothing is resolved at run time, so a new release of a
    dependency cannot change the broker. Processes that share a cache take turns.
    Raises: JarMismatch when a file differs from the lock even when fetched anew; LocalServerError when it cannot be
    fetched.
    """
    cache.mkdir(parents=True, exist_ok=True)
    context = MavenContext(repo_cache=cache, timeout=DOWNLOAD_TIMEOUT_SECONDS)
    dependencies = LockFile.load(LOCK_PATH).dependencies
    with (cache / ".lock").open("w") as turn, ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
        fcntl.flock(turn, fcntl.LOCK_EX)
        return list(pool.map(lambda dependency: _locked_jar(context, dependency), dependencies))


def _locked_jar(context: MavenContext, dependency: LockedDependency) -> Path:
    jar = _fetched(context, dependency)
    if _sha256(jar) != dependency.sha256:
        # A download that was cut short looks like this: once more, then it is another file than the one locked.
        jar.unlink()
        jar = _fetched(context, dependency)
    actual = _sha256(jar)
    if actual != dependency.sha256:
        jar.unlink()
        raise JarMismatch(f"{jar.name} has SHA-256 {actual}, but {LOCK_PATH.name} says {dependency.sha256}")
    return jar


def _fetched(context: MavenContext, dependency: LockedDependency) -> Path:
    component = context.project(dependency.groupId, dependency.artifactId).at_version(dependency.version)
    try:
        return component.artifact(dependency.classifier or "", dependency.packaging).resolve()
    except (OSError, RuntimeError) as problem:
        raise LocalServerError(
            f"{dependency.artifactId}-{dependency.version} is not in {context.repo_cache} and could not be fetched."
            f" The local Kafka needs the network once: {problem}"
        ) from problem


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_lock(cache: Path) -> int:
    """`jgo.lock.toml` names every jar that `jgo.toml` needs at run time, sorted; returns how many."""
    context = MavenContext(repo_cache=cache, timeout=DOWNLOAD_TIMEOUT_SECONDS)
    spec = EnvironmentSpec.load(SPEC_PATH)
    wanted = [context.create_dependency(coordinate) for coordinate in spec.coordinates]
    inputs, transitive = context.resolver.resolve(wanted)
    needed = [*inputs, *(each for each in transitive if each.scope in ("compile", "runtime"))]
    lock = LockFile.from_resolved_dependencies(needed, environment_name=spec.name, min_java_version=17)
    lock.dependencies = _sorted_once(lock.dependencies)
    lock.save(LOCK_PATH)
    return len(lock.dependencies)


def _sorted_once(dependencies: Iterable[LockedDependency]) -> list[LockedDependency]:
    by_coordinate = {(each.groupId, each.artifactId, each.classifier or ""): each for each in dependencies}
    return [by_coordinate[key] for key in sorted(by_coordinate)]


if __name__ == "__main__":
    print(f"{write_lock(Path('.coffer/cache/maven').absolute())} jars locked in {LOCK_PATH.name}")
