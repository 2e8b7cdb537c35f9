"""What the parts say to each other: messages, frames, the contact file, keys. Knows no sockets and no pickles."""
