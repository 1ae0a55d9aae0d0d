"""Suites that hold your own spaces, proxies and executors to what the package relies on; needs pytest.

`SpaceContract`, `ProxyContract` and `ExecutorContract` are test classes to derive from; `naive` is the float64 oracle.
"""

from ssnr.testing.executors import ExecutorContract as ExecutorContract
from ssnr.testing.naive import naive_gradients as naive_gradients
from ssnr.testing.naive import naive_synflow as naive_synflow
from ssnr.testing.proxies import ProxyContract as ProxyContract
from ssnr.testing.spaces import SpaceContract as SpaceContract
