"""The unfinished folder: one writer at a time, nothing seen before it is whole, nothing lost that can be resumed.

    OUT.incomplete/
    |-- lock               held while a run writes; says which process on which host
    |-- JOB-STATE/         the checkpoint being written, named by its fingerprint; one rename makes it OUT
    |-- JOB-STATE.INODE/   the same on the verge of changing places with an OUT that is to be replaced
    `-- previous/          such an OUT, put aside where two names cannot change places in one step

Why no instant is bad, be it a kill or a loss of power:

* OUT is absent, or what it was, or whole: it only ever changes by the rename of a folder whose files and subfolders are
  all on disk, and it holds the plan's files and nothing else, for lock and fingerprint are not in that folder.
* A file has its own name only once its content is on disk. Until then its name starts with a dot and ends in ".part".
* Work done for one fingerprint is never taken for another's, for the fingerprint is the folder's name: there is no file
  that could say one thing while the folder holds another.
* What OUT held is removed only once its replacement is on disk under that name. A folder left at JOB-STATE.INODE is the
  new one, to be resumed, if its inode is the one named, else the old one, to be removed.
* The lock dies with its process. Its last holder removes the file, so whoever locks a file asks whether it is still
  the one of that name.

What the files hold, and whether an OUT that exists is the plan's own finished output, is the caller's to know.
"""

from solar_upscale.write.commit.disk import check_room, output_errors, refuse_overlap
from solar_upscale.write.commit.files import has_file, write_bytes, write_file
from solar_upscale.write.commit.folder import Unfinished, remove_leftovers, unfinished

__all__ = [
    "Unfinished",
    "check_room",
    "has_file",
    "output_errors",
    "refuse_overlap",
    "remove_leftovers",
    "unfinished",
    "write_bytes",
    "write_file",
]
