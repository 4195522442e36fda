"""Points this host at our DNS server, and back again.

Facts are read (`io_detect`), a plan is made of them (`plan`, pure), the plan is performed or undone whole (`io_apply`),
and what was there before is kept in one file (`journal`), so that it comes back octet for octet.
"""
