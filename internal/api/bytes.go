package api

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// MaxBytes bounds every size that a person may give: 1 EiB.
const MaxBytes = 1 << 60

// units of sizes. "4G" is what people write for memory, and they mean GiB, so
// only the forms with B that SI defines are powers of ten.
var units = map[string]float64{
	"": 1, "b": 1,
	"k": 1 << 10, "kib": 1 << 10, "kb": 1e3,
	"m": 1 << 20, "mib": 1 << 20, "mb": 1e6,
	"g": 1 << 30, "gib": 1 << 30, "gb": 1e9,
	"t": 1 << 40, "tib": 1 << 40, "tb": 1e12,
}

// ParseBytes reads "512MiB", "4GiB", "2G", "1.5 GB" or a bare number of bytes.
func ParseBytes(s string) (Bytes, error) {
	text := strings.TrimSpace(s)
	digits := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
	unit, known := units[strings.ToLower(strings.TrimSpace(text[len(digits):]))]
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || !known || math.IsNaN(n) || strings.ContainsAny(digits, "_xX") {
		return 0, fmt.Errorf("%q is not a size: write for example 512MiB, 4GiB or a number of bytes", s)
	}
	if n < 0 || n*unit > MaxBytes {
		return 0, fmt.Errorf("size %q is outside 0 … 1 EiB", s)
	}
	return Bytes(n * unit), nil
}

// UnmarshalJSON reads a number or a text for ParseBytes.
func (b *Bytes) UnmarshalJSON(raw []byte) error {
	s := string(raw)
	if len(raw) > 0 && raw[0] == '"' {
		if err := json.Unmarshal(raw, &s); err != nil {
			return err
		}
	}
	v, err := ParseBytes(s)
	if err == nil {
		*b = v
	}
	return err
}
