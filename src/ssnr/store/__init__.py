"""The store: what was measured, how, with what result, in one SQLite file; merging and checking of such files."""

from ssnr.store.checking import Damage as Damage
from ssnr.store.checking import check as check
from ssnr.store.checking import repair as repair
from ssnr.store.file import FORMAT as FORMAT
from ssnr.store.file import Architecture as Architecture
from ssnr.store.file import Group as Group
from ssnr.store.file import Store as Store
from ssnr.store.merging import Conflict as Conflict
from ssnr.store.merging import merge as merge
from ssnr.store.searches import KeptSearch as KeptSearch
from ssnr.store.searches import Trial as Trial
from ssnr.store.searches import keep_trials as keep_trials
from ssnr.store.searches import kept_searches as kept_searches
