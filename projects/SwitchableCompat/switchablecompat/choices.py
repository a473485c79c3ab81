"""Names and limits that command lines offer and the code takes; here, so that offering them loads nothing."""

FULL = "float32"
PRECISIONS = (FULL, "bfloat16", "float16")  # what networks compute in
KINDS = ("checkpoint", "onnx", "program")  # of exported files
REDUCED = ("float16", "int8")  # precisions of ONNX files below float32
TOLERANCE = 1e-4  # of a component of the L2-normalised features of an exported file
MAX_DROP = 1.0  # percentage points of mAP that a cell may lose by a reduced precision
CALIBRATION = 128  # training images for the ranges of activations
ITEM_KEYS = ("path", "id")  # what tells items of shards apart
PICKS = ("spread", "best", "worst", "flipped")  # which queries of a search to show
ONE_PER_CAMERA = "one-per-camera"
