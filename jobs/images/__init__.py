"""Pictures: what the tasks on images share. Importing it loads no torch.

decode      a picture file of any kind -> pixels; a whole folder -> one file of pixels, decoded once
digit       a photographed or drawn digit -> 28 x 28 as MNIST has them
reading     `read_picture`: a person's picture -> a raw row of a model, for prediction
augment     flip, rotation, translation, colour, at random but stateless
networks    convolutional networks, and torchvision's
problem     pixels and labels -> a Problem
folder      a look at the user's folder at submission
"""
