"""The unfinished folder: one writer at a time, nothing visible before it is complete, no finished work lost.

    OUT.incomplete/
    |-- lock               held while a run writes; contains the process and host
    |-- JOB-STATE/         the checkpoint being written, named by its fingerprint; one rename makes it OUT
    |-- JOB-STATE.INODE/   the same, about to be exchanged with an OUT that is to be replaced
    `-- previous/          such an OUT, moved aside where two names cannot be exchanged atomically

Why a kill or a power loss is safe at any time:

* OUT is absent, unchanged or complete: it only ever changes by renaming a folder whose files and subfolders are all on
  disk, and it holds only the plan's files, since the lock and the fingerprint are not in that folder.
* A file gets its own name only once its content is on disk. Until then its name starts with a dot and ends in ".part".
* Work for one fingerprint is never mistaken for another's, since the fingerprint is the folder's name: no file could
  contradict the folder.
* The old OUT is removed only once its replacement is on disk under that name. A folder left at JOB-STATE.INODE is the
  new one if it has that inode, and is resumed; otherwise it is the old one, and is removed.
* The lock is released when its process dies. Its last holder removes the file, so a process that locks a file checks
  that the file still has that name.

The caller knows what the files hold, and whether an existing OUT is the finished output of its plan.
"""

from solar_upscale.write.commit.disk import check_room, output_errors, refuse_overlap
from solar_upscale.write.commit.files import has_file, write_bytes, write_file
from solar_upscale.write.commit.folder import Unfinished, remove_leftovers, unfinished, would_resume

__all__ = [
    "Unfinished",
    "check_room",
    "has_file",
    "output_errors",
    "refuse_overlap",
    "remove_leftovers",
    "unfinished",
    "would_resume",
    "write_bytes",
    "write_file",
]
