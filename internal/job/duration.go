package job

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// MaxDuration bounds every duration a person may give.
const MaxDuration = Duration(366 * 24 * time.Hour)

// ParseDuration reads "90s", "10m", "1h30m", "2d", a bare number of seconds,
// and Slurm's "MM:SS", "HH:MM:SS" and "D-HH:MM:SS".
func ParseDuration(s string) (Duration, error) {
	d, ok := parseDuration(strings.TrimSpace(s))
	if !ok {
		return 0, fmt.Errorf("%q is not a duration: write for example 90s, 10m, 24h, 2d or 1-12:00:00", s)
	}
	if d < 0 || d > MaxDuration {
		return 0, fmt.Errorf("duration %q is outside 0 … 366 days", s)
	}
	return d, nil
}

func parseDuration(s string) (Duration, bool) {
	if n, err := strconv.ParseFloat(s, 64); err == nil {
		return seconds(n)
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseFloat(days, 64)
		if err != nil {
			return 0, false
		}
		return seconds(n * 86400)
	}
	if strings.Contains(s, ":") {
		return parseClock(s)
	}
	d, err := time.ParseDuration(s)
	return Duration(d), err == nil
}

// parseClock reads Slurm's time format.
func parseClock(s string) (Duration, bool) {
	total := 0
	if days, rest, ok := strings.Cut(s, "-"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return 0, false
		}
		total, s = int(n)*24, rest
	} else if strings.Count(s, ":") == 1 {
		s = "0:" + s
	}
	parts := strings.Split(s, ":")
	if len(parts) > 3 {
		return 0, false
	}
	for i := range 3 {
		n := uint64(0)
		if i < len(parts) {
			var err error
			if n, err = strconv.ParseUint(parts[i], 10, 24); err != nil {
				return 0, false
			}
		}
		if i > 0 {
			total *= 60
		}
		total += int(n)
	}
	return seconds(float64(total))
}

func seconds(n float64) (Duration, bool) {
	if math.IsNaN(n) || math.Abs(n) > 1e9 {
		return 0, false
	}
	return Duration(n * float64(time.Second)), true
}

// MarshalJSON writes a number of seconds.
func (d Duration) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, time.Duration(d).Seconds(), 'f', -1, 64), nil
}

// UnmarshalJSON reads a number of seconds or a text for ParseDuration.
func (d *Duration) UnmarshalJSON(b []byte) error {
	s := string(b)
	if len(b) > 0 && b[0] == '"' {
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
	}
	v, err := ParseDuration(s)
	if err == nil {
		*d = v
	}
	return err
}

func (d Duration) String() string { return time.Duration(d).String() }
