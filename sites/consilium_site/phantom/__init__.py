"""A digital phantom: brain-like MRI with tumours, written as BraTS folders."""
