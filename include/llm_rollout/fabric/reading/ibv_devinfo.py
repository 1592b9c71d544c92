"""Read ibv_devinfo, with or without -v: one row for each port of each device."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from llm_rollout.fabric.reading import causes
from llm_rollout.fabric.reading.causes import Cause, sign
from llm_rollout.fabric.reading.lines import table_lines
from llm_rollout.fabric.reading.outcome import SIMULATED, Reading, Report, Row, Transport, concluded, link_transport

_LANE_GBPS = {1: 2.5, 2: 5.0, 4: 10.0, 8: 10.0, 16: 14.0, 32: 25.0, 64: 50.0, 128: 100.0, 256: 200.0}
"""By the number in parentheses: older rdma-core prints "invalid speed (128)" for 100 Gb/s lanes."""
_FIELD = re.compile(r"^\s*(\w+):\s+(\S.*?)\s*$")
_LINK_LAYERS = {"InfiniBand", "Ethernet", "Unspecified", "Unknown"}
SOFT_VENDOR_ID = "0xffffff"
"""The kernel's rdma_rxe gives this one."""

SIGNS = (
    sign("no-device", "No IB devices found"),
    sign("no-device", "Failed to get IB devices list"),
    sign("no-device", "Failed to open device"),
    sign("no-device", "IB device", r"IB device '?\S+'? wasn't found"),
    sign("other", "Failed to query", r"Failed to query (?:device|port|sgid)[^\n]{0,80}"),
    *causes.SHARED,
)


def read(text: str) -> Reading:
    """The reading of a clean text. A port that is not ACTIVE carries nothing, so it is a failure."""
    found = list(_devices(text))
    rows = [row for device, ports in found for row in (_row(device, port) for port in ports)]
    failed = [
        Cause("port", f"{row['hca']} port {row['port']} is {row['state']}") for row in rows if row["state"] not in _FINE
    ]
    return concluded(
        Report(
            tool="ibv_devinfo",
            rows=rows,
            causes=[*causes.found(text, SIGNS), *failed],
            whole=bool(found) and all(_whole(device, ports) for device, ports in found) and _ends_with_a_field(text),
            transport=_transport(text, rows),
        )
    )


_FINE = {"ACTIVE", None}


def _devices(text: str) -> Iterator[tuple[dict[str, str], list[dict[str, str]]]]:
    """The fields of each device, and those of each of its ports."""
    for block in re.split(r"^[ \t]*hca_id:", text, flags=re.MULTILINE)[1:]:
        device, *ports = re.split(r"^[ \t]*port:", block, flags=re.MULTILINE)
        name = device.split("\n", 1)[0].strip()
        yield _fields(device) | {"hca_id": name}, [_fields(port) | {"port": port.split("\n", 1)[0].strip()}
                                                   for port in ports]  # fmt: skip


def _fields(block: str) -> dict[str, str]:
    found = (_FIELD.match(line) for line in table_lines(block)[1:])
    fields: dict[str, str] = {}
    for match in found:
        if match:
            fields.setdefault(match.group(1), match.group(2))
    return fields


def _row(device: Mapping[str, str], port: Mapping[str, str]) -> Row:
    state = port.get("state")
    mtu = re.match(r"\d{1,6}", port.get("active_mtu", ""))
    return {
        "hca": device["hca_id"],
        "port": int(port["port"]) if re.fullmatch(r"\d{1,4}", port["port"]) else None,
        "state": state.split(" ")[0].removeprefix("PORT_") if state and "(" in state else None,
        "rate_gbps": rate_gbps(port),
        "link_layer": port.get("link_layer"),
        "active_mtu": int(mtu.group(0)) if mtu else None,
        "fw_ver": device.get("fw_ver"),
        "transport": _kind(device, port),
    }


def _kind(device: Mapping[str, str], port: Mapping[str, str]) -> Transport:
    """RDMA only where the device says InfiniBand, as RoCE does too; iWARP and usNIC run over the IP stack."""
    if SIMULATED in device.get("transport", "") or not device.get("transport", "").startswith("InfiniBand"):
        return "other"
    soft = device.get("vendor_id") == SOFT_VENDOR_ID
    return "soft-roce" if soft else link_transport({port.get("link_layer", "")}, {device["hca_id"]})


def _transport(text: str, rows: Sequence[Row]) -> Transport | None:
    kinds: set[Transport] = {row["transport"] for row in rows}
    if SIMULATED in text:
        return "other"
    weakest: tuple[Transport, ...] = ("other", "soft-roce")
    if len(kinds) > 1:
        return next((kind for kind in weakest if kind in kinds), "rdma")
    return next(iter(kinds), None)


def rate_gbps(port: Mapping[str, str]) -> float | None:
    """The port's rate from its fields, None where they do not say it."""
    effective = re.match(r"\d{1,6}(?:\.\d{1,6})?", port.get("effective_speed", ""))
    if effective:
        return float(effective.group(0))
    width = re.match(r"(\d{1,3})X", port.get("active_width", ""))
    code = re.search(r"\((\d{1,6})\)", port.get("active_speed", ""))
    lane = _LANE_GBPS.get(int(code.group(1))) if code else None
    return int(width.group(1)) * lane if width and lane else None


def _whole(device: Mapping[str, str], ports: Sequence[Mapping[str, str]]) -> bool:
    """All ports are listed, each to its last field: the link layer, or with -v the physical state."""
    listed = device.get("phys_port_cnt") == str(len(ports))
    verbose = "page_size_cap" in device
    return listed and all(
        port.get("link_layer") in _LINK_LAYERS and (not verbose or port.get("phys_state", "").endswith(")"))
        for port in ports
    )


def _ends_with_a_field(text: str) -> bool:
    return ":" in text.rstrip().rsplit("\n", 1)[-1]
