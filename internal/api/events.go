package api

import "time"

// heartbeat is the longest silence of an event stream.
const heartbeat = 15 * time.Second

// Frames of an event stream that are not events.
const (
	frameHello   = "hello"   // the first: version, time, and where the stream begins
	frameDropped = "dropped" // the reader is too slow: reconnect after the given position
	frameEnd     = "end"     // the job has ended; nothing more will come
)
