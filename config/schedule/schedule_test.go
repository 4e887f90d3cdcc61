package schedule

import (
	"errors"
	"testing"
	"time"
)

// A zone in the schedule is refused, wherever it stands and whatever follows it.
func TestZoneInSchedule(t *testing.T) {
	for _, text := range []string{"TZ=UTC", "CRON_TZ=UTC", "TZ=", "TZ=UTC * * * * *", " TZ=UTC"} {
		for _, zone := range []string{"", "Europe/Madrid"} {
			if _, err := Parse(text, zone); !errors.Is(err, ErrZone) {
				t.Errorf("%q in zone %q: %v, want %v", text, zone, err, ErrZone)
			}
		}
	}
}

// A zone is a zone, and cannot bring fields of its own.
func TestZone(t *testing.T) {
	s, err := Parse("0 12 * * *", "Europe/Madrid")
	if err != nil {
		t.Fatal(err)
	}
	if next := s.Next(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)); !next.Equal(time.Date(2026, 1, 1, 11, 0, 0, 0, time.UTC)) {
		t.Errorf("noon of Madrid is %s", next)
	}
	for _, zone := range []string{"Nowhere/Land", "UTC *", "../etc", "UTC\t"} {
		if _, err := Parse("0 12 * *", zone); err == nil {
			t.Errorf("the zone %q passes", zone)
		}
	}
}

// A day that no month has is refused; one of leap years alone is not, nor is one that its weekday makes come.
func TestNever(t *testing.T) {
	for _, text := range []string{"0 0 30 2 *", "0 0 31 2,4,6,9,11 *"} {
		for _, zone := range []string{"", "Europe/Madrid"} {
			if _, err := Parse(text, zone); !errors.Is(err, ErrNever) {
				t.Errorf("%q in zone %q: %v, want %v", text, zone, err, ErrNever)
			}
		}
	}
	for _, text := range []string{"0 0 29 2 *", "0 0 30 2 1", "0 0 31 * *", "@yearly", "@every 1h"} {
		if _, err := Parse(text, ""); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("*/5 * * * *", "Europe/Madrid")
	f.Add("TZ=UTC", "")
	f.Add("@every 1h", "UTC")
	f.Add("0 0 30 2 *", "")
	f.Fuzz(func(t *testing.T, text, zone string) {
		if s, err := Parse(text, zone); err == nil {
			s.Next(time.Unix(0, 0))
		}
	})
}
