package api

// Headers that say where a log begins: the attempt, and the position in the
// text of that attempt and those after it.
const (
	headerAttempt = "Nanoos-Attempt"
	headerFrom    = "Nanoos-From"
)
