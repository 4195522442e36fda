"""The messages of etcd's rpc.proto that we use, built at import into a descriptor pool of their own.

No generated code: it would tie us to one protobuf release, and the default pool cannot hold two clients' copies of the
same names. A row is `name:number:type`; `*` after the type means repeated; rows in brackets are alternatives (oneof).
Enumerations are written as int32, which is the same on the wire. Field numbers: etcd 3.4 `rpc.proto` and `kv.proto`
(unchanged in 3.5 and 3.6); a test compares them with another client's generated code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import msgspec
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Message: TypeAlias = Any  # a class made at run time: no type checker can know its fields

PACKAGE = "etcdserverpb"
HEADER = "header:1:ResponseHeader"
TABLE: Mapping[str, str] = {
    "ResponseHeader": "cluster_id:1:uint64 member_id:2:uint64 revision:3:int64 raft_term:4:uint64",
    "KeyValue": "key:1:bytes create_revision:2:int64 mod_revision:3:int64 version:4:int64 value:5:bytes lease:6:int64",
    "Event": "type:1:int32 kv:2:KeyValue prev_kv:3:KeyValue",
    "RangeRequest": "key:1:bytes range_end:2:bytes limit:3:int64 revision:4:int64 serializable:7:bool keys_only:8:bool"
    " count_only:9:bool",
    "RangeResponse": f"{HEADER} kvs:2:KeyValue* more:3:bool count:4:int64",
    "PutRequest": "key:1:bytes value:2:bytes lease:3:int64",
    "PutResponse": HEADER,
    "DeleteRangeRequest": "key:1:bytes range_end:2:bytes",
    "DeleteRangeResponse": f"{HEADER} deleted:2:int64",
    "RequestOp": "[ request_range:1:RangeRequest request_put:2:PutRequest request_delete_range:3:DeleteRangeRequest ]",
    "ResponseOp": "[ response_range:1:RangeResponse response_put:2:PutResponse"
    " response_delete_range:3:DeleteRangeResponse ]",
    "Compare": "result:1:int32 target:2:int32 key:3:bytes"
    " [ version:4:int64 create_revision:5:int64 mod_revision:6:int64 value:7:bytes lease:8:int64 ]",
    "TxnRequest": "compare:1:Compare* success:2:RequestOp* failure:3:RequestOp*",
    "TxnResponse": f"{HEADER} succeeded:2:bool responses:3:ResponseOp*",
    "CompactionRequest": "revision:1:int64 physical:2:bool",
    "CompactionResponse": HEADER,
    "WatchCreateRequest": "key:1:bytes range_end:2:bytes start_revision:3:int64 progress_notify:4:bool fragment:8:bool",
    "WatchProgressRequest": "",
    "WatchRequest": "[ create_request:1:WatchCreateRequest progress_request:3:WatchProgressRequest ]",
    "WatchResponse": f"{HEADER} watch_id:2:int64 created:3:bool canceled:4:bool compact_revision:5:int64"
    " cancel_reason:6:string fragment:7:bool events:11:Event*",
    "LeaseGrantRequest": "TTL:1:int64 ID:2:int64",
    "LeaseGrantResponse": f"{HEADER} ID:2:int64 TTL:3:int64 error:4:string",
    "LeaseRevokeRequest": "ID:1:int64",
    "LeaseRevokeResponse": HEADER,
    "LeaseKeepAliveRequest": "ID:1:int64",
    "LeaseKeepAliveResponse": f"{HEADER} ID:2:int64 TTL:3:int64",
    "AuthenticateRequest": "name:1:string password:2:string",
    "AuthenticateResponse": f"{HEADER} token:2:string",
    "StatusRequest": "",
    "StatusResponse": f"{HEADER} version:2:string leader:4:uint64 isLearner:10:bool",
}

EVENT_DELETE = 1  # Event.type; 0 is a put
EQUAL = 0  # Compare.result
CREATE, MOD, VALUE = 1, 2, 3  # Compare.target


class Method(msgspec.Struct, frozen=True):
    """One call: its path on the wire and the classes that go out and come back."""

    path: str
    request: Message
    response: Message


def _fields(row: str) -> Iterator[tuple[str, int, str, bool]]:
    inside = False
    for word in row.split():
        if word in {"[", "]"}:
            inside = word == "["
            continue
        name, number, kind = word.split(":")
        yield name, int(number), kind, inside


def _describe(name: str, row: str) -> descriptor_pb2.DescriptorProto:
    described = descriptor_pb2.DescriptorProto(name=name)
    if "[" in row:
        described.oneof_decl.add(name="choice")
    for field_name, number, kind, alternative in _fields(row):
        field = described.field.add(name=field_name, number=number)
        field.label = field.LABEL_REPEATED if kind.endswith("*") else field.LABEL_OPTIONAL
        _set_type(field, kind.rstrip("*"))
        if alternative:
            field.oneof_index = 0
    return described


def _set_type(field: descriptor_pb2.FieldDescriptorProto, kind: str) -> None:
    if kind in TABLE:
        field.type, field.type_name = field.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
    else:
        field.type = descriptor_pb2.FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")


def _classes() -> Mapping[str, Message]:
    file = descriptor_pb2.FileDescriptorProto(name="pilotfish-etcd.proto", package=PACKAGE, syntax="proto3")
    file.message_type.extend(_describe(name, row) for name, row in TABLE.items())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in TABLE}


CLASSES = _classes()
METHODS: Mapping[str, Method] = {
    name: Method(f"/{PACKAGE}.{service}/{call}", CLASSES[f"{what}Request"], CLASSES[f"{what}Response"])
    for name, service, call, what in (
        ("range", "KV", "Range", "Range"),
        ("put", "KV", "Put", "Put"),
        ("delete_range", "KV", "DeleteRange", "DeleteRange"),
        ("txn", "KV", "Txn", "Txn"),
        ("compact", "KV", "Compact", "Compaction"),
        ("watch", "Watch", "Watch", "Watch"),
        ("lease_grant", "Lease", "LeaseGrant", "LeaseGrant"),
        ("lease_revoke", "Lease", "LeaseRevoke", "LeaseRevoke"),
        ("lease_keep_alive", "Lease", "LeaseKeepAlive", "LeaseKeepAlive"),
        ("authenticate", "Auth", "Authenticate", "Authenticate"),
        ("status", "Maintenance", "Status", "Status"),
    )
}
