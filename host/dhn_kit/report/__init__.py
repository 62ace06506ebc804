"""A self-contained HTML page on what hooks bring, and what they cost."""
# SPDX-License-Identifier: Apache-2.0

from dhn_kit.report.gather import gather, gather_file
from dhn_kit.report.report import Figures, MemoryBlock, ReportData, figures, memory_blocks, write_report

__all__ = ["Figures", "MemoryBlock", "ReportData", "figures", "gather", "gather_file", "memory_blocks", "write_report"]
