"""What befalls nginx, with every part running: rows C2 (a reload that is not applied) and C3 (killed)."""

from __future__ import annotations

import os
import signal

import pytest

from lab.host import Host
from lab.process import state_of
from lab.waiting import wait_until
from tests.lab.faults import NAME, Timeline, children_of, fetch, missing, state
from tests.lab.load import Load
from tests.lab.suite import DOMAIN, answers, run
from tests.parts import checker, prober
from tests.parts.checker import Sent

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

SHOWN_S = 5.0
HOLD = """\
import signal, socket, sys
held = socket.create_server(("0.0.0.0", int(sys.argv[1])))
print("held", flush=True)
signal.pause()
"""
OTHER_PORT = 8081


async def test_fault_C2(standing, tmp_path):
    """A reload whose port is taken passes every check and changes nothing: seen in 5 s, never said to be applied."""
    host = standing.hosts[1]
    line = Timeline("C2 a reload is not applied")
    async with Load(standing, tmp_path) as load:
        served = state(host, "confgen")["generation"]
        record = standing.lab.etcd.get(f"/pilotfish/v1/proxies/{host.name}")
        holder = host.popen(["python3", "-c", HOLD, str(OTHER_PORT)], name="holder")
        holder.wait_line("held", within_s=10)
        standing.suite.process(host, "confgen").terminate()
        line.mark("injected")
        standing.suite.start(host, "confgen", "--http-port", str(OTHER_PORT))
        wait_until(lambda: state(host, "confgen"), within_s=20, what="confgen to begin")
        began = line.mark("runs again")
        error = wait_until(
            lambda: state(host, "confgen")["nginx"]["error"], within_s=SHOWN_S, what="the failure to show"
        )
        line.mark("detected")
        assert "bind() to 0.0.0.0:8081 failed" in error["message"]
        assert "still could not bind()" in _errors(host)  # the fault was met, and it was nginx's own
        assert missing(host, "confgen")
        assert (host.folder / "confgen" / "nginx" / "current").readlink().name == served
        await load.flow()
        shown = standing.lab.etcd.get(f"/pilotfish/v1/proxies/{host.name}")
        assert not shown or all(str(OTHER_PORT) not in value for value in shown.values())
        holder.kill()
        line.mark("healed")
        wait_until(
            lambda: fetch(host, OTHER_PORT, "/", NAME)[0] == 200, within_s=20, what="the other port to be served"
        )
        line.mark("recovered")
        standing.suite.process(host, "confgen").terminate()
        standing.suite.start(host, "confgen")
        standing.converged()
        line.mark("verified equal")
    rows = load.web_load.rows(Sent)
    away = [
        one for one in rows if one.proxy == f"{host.address}:80" and began <= one.at and one.at >= line.at["healed"]
    ]
    verdict = load.requests(besides=away)
    line.note(f"the record before: {len(record)}, requests: {checker.text(verdict)}")
    line.show()
    assert verdict.bad == 0, checker.text(verdict)


def _errors(host: Host) -> str:
    return (host.folder / "confgen" / "nginx" / "logs" / "error.log").read_text(encoding="utf-8", errors="replace")


async def test_fault_C3(standing, tmp_path):
    """All of nginx is killed while configurations change: shown in 5 s, and what serves then is the newest."""
    host = standing.hosts[1]
    line = Timeline("C3 nginx is killed")
    async with Load(standing, tmp_path) as load:
        old = state(host, "confgen")["generation"]
        master = state(host, "confgen")["nginx"]["pid"]
        children = children_of(master)
        program = host.run(["sh", "-c", "command -v nginx"]).stdout.strip()
        line.mark("injected")
        host.run(["mount", "--bind", "/dev/null", program])  # so that it cannot be started again until we say so
        try:
            for pid in [master, *children]:
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda: state_of(master) in {"", "Z", "X"}, within_s=5, what="its end")
            wait_until(lambda: "nginx" in missing(host, "confgen"), within_s=SHOWN_S, what="confgen to say so")
            line.mark("detected")
            left = [each.address for each in standing.hosts if each is not host]
            wait_until(lambda: all(answers(each, NAME) == left for each in standing.hosts), within_s=SHOWN_S,
                       what="its proxy to leave the answers")  # fmt: skip
            line.mark("out of DNS")
            run(host, "-e", "SERVICE_NAME=late", "-e", "PORTS=9400", "-e", "SERVICE_9400_PROXY=http", "-p", "9400",
                name="late")  # fmt: skip
            await load.flow()
        finally:
            host.run(["umount", program])
        line.mark("healed")
        wait_until(
            lambda: fetch(host, 80, "/", f"late.{DOMAIN}")[0] == 200, within_s=10, what="the newest to be served"
        )
        line.mark("recovered")
        wait_until(lambda: state(host, "confgen")["generation"] != old, within_s=SHOWN_S, what="confgen to know it too")
        host.docker(["rm", "-f", "late"])
        standing.converged()
        line.mark("verified equal")
        await load.flow()
    theirs = [row for row in load.web_load.rows(Sent) if row.proxy == f"{host.address}:80" and _away(row.at, line)]
    verdict = load.requests(besides=theirs)
    questions = load.questions(besides=[row for row in load.asked() if row.name == NAME and _away(row.at, line)])
    line.note(f"requests through it meanwhile: {sum(row.status != 200 for row in theirs)} of {len(theirs)} failed")
    line.note(f"others: {checker.text(verdict)}; questions: {prober.text(questions)}")
    line.show()
    assert verdict.bad == 0, checker.text(verdict)
    assert questions.bad == 0, prober.text(questions)


def _away(at: float, line: Timeline) -> bool:
    return line.at["injected"] - 1 <= at <= line.at["verified equal"]
