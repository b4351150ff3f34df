package written

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ParseDuration reads "90d", "1y" (365 days), "12h", "1h30m": at most 100 years.
func ParseDuration(text string) (time.Duration, error) {
	const day = 24 * time.Hour
	for suffix, unit := range map[string]time.Duration{"d": day, "y": 365 * day} {
		if number, ok := strings.CutSuffix(text, suffix); ok {
			n, err := strconv.ParseUint(number, 10, 32)
			if errors.Is(err, strconv.ErrSyntax) {
				return 0, notDuration(text)
			}
			if err != nil || n > uint64(100*365*day/unit) {
				return 0, fmt.Errorf("%.32q: want a number of days or years, at most 100 years", text)
			}
			return time.Duration(n) * unit, nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > 100*365*day {
		return 0, notDuration(text)
	}
	return d, nil
}

func notDuration(text string) error {
	return fmt.Errorf("%.32q is not a duration such as 90s, 30m, 24h, 7d or 1y", text)
}
