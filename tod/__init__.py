"""TOD: fine-tune a vision model on the device that will use it.

session = tod.TrainSession.load("transfer_learning.tod")
for record in tod.train(session, tod.Dataset.open("dataset")):
    print(record)
session.save("my_model.tod")
"""

from tod.dataset import Dataset
from tod.errors import TodError
from tod.session import TrainSession
from tod.training import train

__version__ = "0.1.0"
__all__ = ["Dataset", "TodError", "TrainSession", "__version__", "train"]
