"""What `tools/train_demo.py` is made of: words, pictures, lessons, the checkpoint's layout, training and evaluation."""
