// Package schedule reads the schedules of CronJobs.
//
// Validation and the controller read them by the same function, so what the one lets
// in the other can run, and it is time for it again and again. It answers for every text: github.com/robfig/cron/v3 panics on
// a zone that nothing follows ("TZ=UTC").
package schedule

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// What is wrong with schedules that could be read.
var (
	ErrZone  = errors.New("the zone stands in spec.timeZone") // it names a zone itself
	ErrNever = errors.New("no month has such a day: it is never time")
)

// Parse reads minute, hour, day, month and weekday, or a word such as @daily. Zone is
// a name such as Europe/Madrid, "" that of this machine.
func Parse(text, zone string) (cron.Schedule, error) {
	if strings.Contains(text, "TZ=") {
		return nil, ErrZone
	}
	if zone != "" {
		if strings.ContainsAny(zone, " \t\r\n") {
			return nil, fmt.Errorf("found the zone %q, want a name such as Europe/Madrid", zone)
		}
		text = "TZ=" + zone + " " + text
	}
	s, err := cron.ParseStandard(text)
	if err != nil {
		return nil, err
	}
	// A search goes five years far. From here it finds what there is only in leap years, and the answer is the same every day.
	if s.Next(leapYear).IsZero() {
		return nil, ErrNever
	}
	return s, nil
}

var leapYear = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
