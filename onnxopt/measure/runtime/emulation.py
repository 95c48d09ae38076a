"""Detection of an emulated processor, whose latency is meaningless for real machines."""

import platform
import re
import subprocess
from pathlib import Path

_MODALIAS = Path("/sys/devices/system/cpu/modalias")
_THREAD_EXE = Path("/proc/thread-self/exe")
_CPUINFO = Path("/proc/cpuinfo")
_EMULATORS = re.compile(r"qemu|box64|box86|fex(interpreter|loader)?$", re.IGNORECASE)


def emulator() -> str | None:
    """Return the evidence that this process runs on an emulated processor; None when there is none.

    QEMU's user mode shows the process an emulated `/proc/self` and, in newer versions, `/proc/cpuinfo`; the host's
    facts remain visible at `/proc/thread-self` and in `/sys`.
    """
    if platform.system() == "Darwin":
        return "Rosetta translates this process" if _translated() else None
    return evidence(platform.machine(), _target(_THREAD_EXE), _text(_MODALIAS), _text(_CPUINFO))


def evidence(machine: str, executable: str, modalias: str, cpuinfo: str) -> str | None:
    """Return the evidence of an emulated processor in facts of the system; None without any.

    Args:
        machine: architecture that this process sees, from `platform.machine()`.
        executable: path of the program that the kernel really runs.
        modalias: modalias of the host's processors, such as `cpu:type:x86,ven0000fam0006`.
        cpuinfo: `/proc/cpuinfo` of the host or of the emulator.
    """
    if _EMULATORS.search(Path(executable).name):
        return f"the process is run by {Path(executable).name}"
    family = _family(machine)
    host = _family(modalias.removeprefix("cpu:type:").split(",")[0])
    if family and host and family != host:
        return f"the program is {family} and the host's processor {host}"
    maker = "x86" if "GenuineIntel" in cpuinfo or "AuthenticAMD" in cpuinfo else ""
    if family and maker and family != maker:
        return f"the program is {family} and /proc/cpuinfo says {maker}"
    return None


def _family(name: str) -> str:
    name = name.lower()
    if name.startswith(("x86", "amd64", "i386", "i686")):
        return "x86"
    if name.startswith(("aarch64", "arm")):
        return "arm"
    return "riscv" if name.startswith("riscv") else ""


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _target(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""


def _translated() -> bool:
    command = ["sysctl", "-n", "sysctl.proc_translated"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.stdout.strip() == "1"
