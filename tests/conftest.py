"""One torch thread for all tests: what is measured must not depend on it, and shared cores make more of them slower."""

import torch

torch.set_num_threads(1)
