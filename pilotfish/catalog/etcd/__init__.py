"""Our asyncio client of etcd v3, with the method names of python-etcd3.

    client = EtcdClient(endpoints, ...)         `client`: calls, pages, transactions
        Ring, Link                              `channel`: one gRPC channel per endpoint, which of them answers
        Auth                                    `auth`: the token, asked for anew when it is refused
        watch, keep_alive                       `watch`, `lease`: the two streaming calls
        messages                                `messages`: rpc.proto as a table; nothing generated
        EtcdError                               `errors`: what the server said, and what that means for a caller

It knows etcd and bytes; what the keys mean, and the errors of `Store`, are known to `io_etcd` above it.
"""

from __future__ import annotations

import os

# gRPC reads this when it is first imported. Its default writes a line to stderr for every child process we start
# ("Other threads are currently calling into gRPC, skipping fork()"), which is harmless and cannot be acted on.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
