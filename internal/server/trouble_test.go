package server

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What fails every second is told once a minute, each trouble by itself, and its end once.
func TestTroubles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		troubles := &troubles{log: slog.New(slog.NewTextHandler(&log, nil))}
		count := func(text string) int {
			troubles.mu.Lock() // the writer to the log holds it
			defer troubles.mu.Unlock()
			return strings.Count(log.String(), text)
		}
		for range 90 {
			troubles.report("follower", errors.New("the database is away"))
			time.Sleep(time.Second)
		}
		troubles.report("follower", errors.New("another"))
		troubles.report("publisher", errors.New("the database is away"))
		if errs, ends := count("something failed"), count("has not failed"); errs != 4 || ends != 0 {
			t.Errorf("%d errors and %d ends in\n%s", errs, ends, log.String())
		}
		time.Sleep(calm - time.Second)
		troubles.report("publisher", errors.New("the database is away"))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if count("has not failed again\" part=follower failing_for=1m30s") != 1 || count("has not failed again\" part=publisher") != 0 {
			t.Errorf("the end of one in\n%s", log.String())
		}
		time.Sleep(calm)
		synctest.Wait()
		if count("has not failed") != 2 {
			t.Errorf("two ends in\n%s", log.String())
		}
		troubles.report("follower", errors.New("the database is away"))
		if count("something failed") != 6 {
			t.Errorf("it fails anew in\n%s", log.String())
		}
		for range 5 { // a part that tries once a minute has not recovered in between
			time.Sleep(time.Minute)
			troubles.report("follower", errors.New("the database is away"))
		}
		if count("has not failed") != 2 {
			t.Errorf("it is over while it fails in\n%s", log.String())
		}
		troubles.close()
		time.Sleep(2 * calm)
		if count("has not failed") != 2 {
			t.Errorf("told after the stop in\n%s", log.String())
		}
	})
}
