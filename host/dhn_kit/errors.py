"""The one exception for what the user, the model or the board did wrong."""
# SPDX-License-Identifier: Apache-2.0


class DhnError(Exception):
    """Names the thing, the limit and the next step, in one line.

    Everything else that is raised is a bug and keeps its traceback. Only the
    command line catches this class.
    """
