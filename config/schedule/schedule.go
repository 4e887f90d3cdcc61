// Package schedule reads the schedules of CronJobs.
//
// Validation and the controller read them by the same function, so what the one lets
// in the other can run. It answers for every text: github.com/robfig/cron/v3 panics on
// a zone that nothing follows ("TZ=UTC").
package schedule

import (
	"errors"
	"fmt"
	"strings"

	"github.com/robfig/cron/v3"
)

// ErrZone is what is wrong with a schedule that names a zone itself.
var ErrZone = errors.New("the zone stands in spec.timeZone")

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
	return cron.ParseStandard(text)
}
