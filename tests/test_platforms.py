"""
Other systems than Linux. Separate processes run without the names that those systems lack, and a
test fails when a module begins to need one.
"""

import ast
import errno
import importlib.util
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import libcloud_mcs
from libcloud_mcs.emulator import Emulator

PACKAGE = Path(libcloud_mcs.__file__).parent

#: Modules that Windows does not have.
MODULES = {
    *("crypt", "curses", "fcntl", "grp", "nis", "ossaudiodev", "posix", "pty", "pwd", "readline"),
    *("resource", "spwd", "syslog", "termios", "tty"),
}
#: What Windows, or an event loop there, does not have.
NAMES = {
    "os": (
        "chown chroot confstr ctermid fchdir fchmod fchown fork forkpty getegid geteuid getgid"
        " getgroups getloadavg getpgid getpgrp getpriority getsid getuid initgroups killpg lchown"
        " lockf major makedev minor mkfifo mknod nice openpty pathconf posix_spawn pread preadv"
        " pwrite pwritev readv register_at_fork sched_getaffinity sendfile setegid seteuid setgid"
        " setgroups setpgid setpriority setregid setresuid setreuid setsid setuid statvfs sync"
        " sysconf tcgetpgrp tcsetpgrp ttyname uname wait wait3 wait4 waitid writev"
    ),
    "signal": (
        "SIGALRM SIGCHLD SIGCONT SIGHUP SIGIO SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGTTIN"
        " SIGTTOU SIGUSR1 SIGUSR2 SIGWINCH alarm getitimer pause pthread_kill pthread_sigmask"
        " setitimer siginterrupt sigpending sigtimedwait sigwait sigwaitinfo"
    ),
    "socket": "AF_NETLINK AF_UNIX CMSG_LEN SCM_RIGHTS SO_REUSEADDR SO_REUSEPORT sethostname",
    "select": "devpoll epoll kqueue poll",
    "time": "clock_getres clock_gettime clock_settime pthread_getcpuclockid tzset",
    "an event loop": (
        "add_reader add_signal_handler add_writer connect_read_pipe connect_write_pipe"
        " create_unix_connection create_unix_server remove_reader remove_signal_handler"
        " remove_writer"
    ),
}
#: Files of a POSIX system.
FILES = ("/bin/", "/dev/", "/etc/", "/proc/", "/tmp", "/usr/", "/var/")

#: Who needs such things nevertheless.
NEEDED = {
    # Refused elsewhere, in one line, on request.
    "emulator/_ssh.py": {
        *("fcntl", "termios"),
        *("os.killpg", "os.openpty", "os.ttyname", "signal.SIGKILL"),
        *("add_reader", "remove_reader", "connect_write_pipe"),
        *("/bin/sh", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    },
    # Only where there is a fork.
    "emulator/_lifetime.py": {"os.register_at_fork"},
    # Of an event loop that is chosen for it.
    "emulator/_http.py": {"add_reader", "remove_reader"},
}


def posix_alone(tree):
    """Return the names in a module that only POSIX systems have."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & MODULES
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} & MODULES
            names = NAMES.get(node.module, "").split()
            found |= {f"{node.module}.{each.name}" for each in node.names if each.name in names}
        elif isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else None
            if node.attr in NAMES.get(owner, "").split():
                found.add(f"{owner}.{node.attr}")
            elif node.attr in NAMES["an event loop"].split():
                found.add(node.attr)
        elif isinstance(node, ast.Constant) and str(node.value).startswith(FILES):
            found.add(node.value)
    return found


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix()
)
def test_module_needs_only_what_every_system_has(path):
    name = path.relative_to(PACKAGE).as_posix()
    found = posix_alone(ast.parse(path.read_text(encoding="utf-8")))
    assert found == NEEDED.get(name, set())


def test_check_finds_posix_names_in_source():
    code = """
    import fcntl, os
    from pwd import getpwnam
    from os import fork, path
    def later():
        import termios
        os.killpg(1, signal.SIGKILL)
        loop().add_signal_handler(1, print)
        open("/dev/null")
    """
    assert posix_alone(ast.parse(textwrap.dedent(code))) == {
        *("fcntl", "pwd", "os.fork", "termios", "os.killpg", "signal.SIGKILL"),
        *("add_signal_handler", "/dev/null"),
    }
    missing = {
        f"{owner}.{name}"
        for owner, names in NAMES.items()
        if owner != "an event loop"
        for name in names.split()
        if not hasattr(sys.modules.get(owner) or __import__(owner), name)
    }
    # Of other POSIX systems than this one.
    assert missing <= {"select.devpoll", "select.kqueue", "os.lchown", "os.preadv", "os.pwritev"}


#: Takes away what Windows does not have. What others have imported before keeps what it needs.
WITHOUT = f"""
import asyncio, contextlib, os, select, signal, socket, ssl, subprocess, sys, tempfile, threading
import time
import cryptography.x509, libcloud.compute.base, lxml.etree, pytest, requests, tornado.iostream
sys.modules.update(dict.fromkeys({sorted(MODULES)!r}))
signal.SIGBREAK, kill = signal.SIGUSR1, os.kill  # Ctrl-Break
for owner, names in {NAMES!r}.items():
    for name in names.split():
        # Python itself needs these here: for socketpair(), for create_server(), for event loops.
        if owner in sys.modules and name not in ("AF_UNIX", "SO_REUSEADDR", "epoll", "poll"):
            with contextlib.suppress(AttributeError):
                delattr(sys.modules[owner], name)

def missing(*_):
    raise NotImplementedError

class Proactor(asyncio.SelectorEventLoop):
    add_reader = add_writer = remove_reader = remove_writer = missing
    add_signal_handler = remove_signal_handler = missing
    connect_read_pipe = connect_write_pipe = missing
    create_unix_connection = create_unix_server = missing

class Policy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self):
        return Proactor()

asyncio.set_event_loop_policy(Policy())
"""


def run_without(code, *arguments):
    """Run a program without POSIX's names, as on Windows, and return its output."""
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore::DeprecationWarning",
            "-c",
            WITHOUT + textwrap.dedent(code),
            *map(str, arguments),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stderr == ""
    return done.stdout


def test_simulated_windows_lacks_posix_names():
    run_without(
        """
        for module in ("fcntl", "pwd"):
            with pytest.raises(ImportError):
                __import__(module)
        assert not hasattr(os, "fork") and not hasattr(os, "register_at_fork")
        assert not hasattr(signal, "SIGKILL")

        async def main():
            with pytest.raises(NotImplementedError):
                asyncio.get_running_loop().add_signal_handler(2, print)
            with pytest.raises(NotImplementedError):
                asyncio.get_running_loop().add_reader(0, print)

        asyncio.run(main())
        """
    )


def test_driver_and_emulator_work_without_posix_names(tmp_path):
    run_without(
        """
        from libcloud_mcs import MCSNodeDriver
        from libcloud_mcs.emulator import Emulator, delay, drop_after

        settings = {"boot_seconds": 0, "node_network": "127.10.0.0/16", "tls": True}
        for _ in range(2):
            with Emulator(state=sys.argv[1], **settings) as cloud:
                driver = cloud.driver(retry_delay=0.01)
                assert isinstance(driver, MCSNodeDriver)
                cloud.inject(drop_after(), times=1)
                cloud.inject(delay(0.01))
                image = driver.list_images()[0]
                pair = driver.create_key_pair(f"pair-{len(driver.list_nodes())}")
                node = driver.create_node(f"node-{pair.name}", "small", image, ex_keyname=pair.name)
                assert driver.ex_get_password_data(node, pair.private_key).password
                cloud.stop()
                cloud.start()
                names = [each.name for each in driver.list_nodes()]
        assert names == ["node-pair-0", "node-pair-1"]
        """,
        tmp_path / "state.db",
    )


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGBREAK"])
def test_command_works_without_posix_names(tmp_path, number):
    folder = tmp_path / "state"
    folder.mkdir()
    printed = run_without(
        f"""
        from libcloud_mcs.emulator.__main__ import main

        def end():
            while True:
                with contextlib.suppress(OSError), open(sys.argv[2], encoding="utf-8") as file:
                    if "MOS_URL=" in file.read():
                        break
            kill(os.getpid(), signal.{number})

        before = signal.getsignal(signal.{number})
        threading.Thread(target=end, daemon=True).start()
        with open(sys.argv[2], "w") as file, contextlib.redirect_stdout(file):
            status = main(["--port", "0", "--state", sys.argv[1]])
        assert signal.getsignal(signal.{number}) == before
        print(status, os.listdir(os.path.dirname(sys.argv[1])))
        """,
        folder / "state.db",
        tmp_path / "printed",
    )
    assert printed == "0 ['state.db']\n"


def test_ssh_is_refused_without_posix_names():
    run_without(
        """
        from libcloud_mcs.emulator.__main__ import main

        stderr = __import__("io").StringIO()
        with contextlib.redirect_stderr(stderr):
            status = main(["--node-network", "127.10.0.0/16", "--ssh", "--port", "0"])
        assert status == 1
        assert stderr.getvalue() == (
            "error: ssh: the nodes' SSH servers need a POSIX system such as Linux; this one is"
            f" {sys.platform}\\n"
        )
        """
    )


def test_pytest_plugin_works_without_posix_names(tmp_path):
    (tmp_path / "test_mine.py").write_text(
        "def test_mine(mcs_driver, mcs_emulator):\n    assert mcs_driver.list_nodes() == []\n"
    )
    printed = run_without(
        """
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        options = ["-q", "-p", "no:cacheprovider", "-p", "libcloud_mcs", f"--rootdir={sys.argv[1]}"]
        status = pytest.main([*options, sys.argv[1]])
        assert status == 0, status
        """,
        tmp_path,
    )
    assert "1 passed" in printed


def test_salt_extension_is_imported_without_posix_names():
    if importlib.util.find_spec("salt") is None:
        pytest.skip("the tests of the Salt extension need Salt")
    run_without(
        """
        import libcloud_mcs.salt._machines, libcloud_mcs.salt._settings
        """
    )
    # Salt itself knows what there is; only what is ours is to do without it.
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, salt.config, salt.utils.cloud, salt.utils.data, salt.exceptions\n"
            f"sys.modules.update(dict.fromkeys({sorted(MODULES)!r}))\n"
            "import libcloud_mcs.salt.clouds.mcs",
        ],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"host": "127.0.0.77"}, "ifconfig lo0 alias 127.0.0.77 up"),
        ({"node_network": "127.77.0.0/24", "ssh": True}, "ifconfig lo0 alias 127.77.0.0 up"),
    ],
)
def test_missing_loopback_address_is_error_that_says_how_to_add_it(monkeypatch, settings, words):
    create_server = socket.create_server

    def refuse(address, **kwargs):
        if address[0] not in ("127.0.0.1", "::1"):  # what macOS has by itself
            raise OSError(errno.EADDRNOTAVAIL, "Can't assign requested address")
        return create_server(address, **kwargs)

    monkeypatch.setattr(socket, "create_server", refuse)
    emulator = Emulator(**settings)
    with pytest.raises(OSError, match=rf"Can't assign requested address; .*'sudo {words}'"):
        emulator.start()


def test_host_of_another_machine_is_error():
    with pytest.raises(OSError, match=r"cannot listen on 192\.0\.2\.1 port 0: [^;]*$"):
        Emulator(host="192.0.2.1").start()


def test_classifiers_name_the_tested_systems():
    metadata = Path(__file__).parent.parent / "setup.cfg"
    if not metadata.exists():
        pytest.skip("the wheel is tested without the file that it is made from")
    lines = metadata.read_text(encoding="utf-8").splitlines()
    systems = [line.strip() for line in lines if "Operating System" in line]
    assert systems == ["Operating System :: POSIX :: Linux"]
