"""Find the best networks of a space under constraints: proposals, scores, a front."""

from ssnr.searchers.loop import search as search
from ssnr.searchers.result import SearchResult as SearchResult
