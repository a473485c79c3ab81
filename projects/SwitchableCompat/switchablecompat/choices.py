"""Names and limits that command lines offer and the code uses. They are here so that a help text loads nothing else."""

FULL = "float32"
PRECISIONS = (FULL, "bfloat16", "float16")  # what networks compute in
KINDS = ("checkpoint", "onnx", "program")  # kinds of exported files
REDUCED = ("float16", "int8")  # precisions of ONNX files below float32
TOLERANCE = 1e-4  # largest error of any component of an exported file's L2-normalised features
MAX_DROP = 1.0  # mAP that a cell may lose in a reduced precision, in percentage points
CALIBRATION = 128  # training images that determine the ranges of activations
ITEM_KEYS = ("path", "id")  # columns that can identify the items of shards
PICKS = ("spread", "best", "worst", "flipped")  # which queries of a search to show
ONE_PER_CAMERA = "one-per-camera"
