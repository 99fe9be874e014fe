// Package clocks is a data set for examples: the history of the world's clocks.
package clocks

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // for machines without a time zone database
)

// A Record is one message of the data set.
type Record struct {
	Key  string // "tz.europe.berlin.1916-04-30": the zone, then the UTC day of the change
	Data string // a Period, as JSON
}

// A Period is the time between two changes of a zone's clocks.
type Period struct {
	Zone         string     `json:"zone"`
	From         time.Time  `json:"from"`
	To           *time.Time `json:"to,omitempty"`   // absent if no later change is known
	Offset       int        `json:"offset_seconds"` // east of UTC; before about 1920 rarely a whole number of minutes
	Abbreviation string     `json:"abbreviation"`
	DST          bool       `json:"dst"`
}

// zoneNames is the name column of zone.tab in the IANA time zone database (public domain). It has every zone that a country
// uses, and no aliases.
//
//go:embed zones.txt
var zoneNames string

// historyEnd excludes the future: later changes in the database follow from today's rules, and may never happen.
var historyEnd = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// clockStart is before the first change in the database, which is in the 1830s.
var clockStart = time.Date(1800, time.January, 1, 0, 0, 0, 0, time.UTC)

// Records returns every change of every zone's clocks before 2026: some 23,500 records of about 140 bytes, by zone and then
// by time. No two have the same key. They come from the machine's time zone database, or from the one in the Go distribution
// if the machine has none. They are the same in every run; another release of the database may have a few more or less.
func Records() ([]Record, error) {
	var all []Record
	for name := range strings.FieldsSeq(zoneNames) {
		zone, err := time.LoadLocation(name)
		if err != nil {
			return nil, fmt.Errorf("load time zone %s: %w", name, err)
		}
		for _, p := range periods(zone, historyEnd) {
			data, err := json.Marshal(p)
			if err != nil {
				return nil, fmt.Errorf("encode the period of %s from %s: %w", name, p.From, err)
			}
			all = append(all, Record{Key: p.key(), Data: string(data)})
		}
	}
	return all, nil
}

// key makes tokens of the zone's name, so that a filter can select a part of the world: tz.america.> or
// tz.america.argentina.>. The day distinguishes the changes: no clock was ever changed twice on one day.
func (p Period) key() string {
	zone := strings.ToLower(strings.ReplaceAll(p.Zone, "/", "."))
	return "tz." + zone + "." + p.From.Format(time.DateOnly)
}

// periods lists the periods of a zone that began before end. A zone that never changed has none.
func periods(zone *time.Location, end time.Time) []Period {
	var all []Period
	for at, ok := nextChange(clockStart.In(zone), end); ok; at, ok = nextChange(at, end) {
		from := at.UTC()
		if n := len(all); n > 0 {
			all[n-1].To = &from
		}
		abbreviation, offset := at.Zone()
		all = append(all, Period{
			Zone: zone.String(), From: from, Offset: offset, Abbreviation: abbreviation, DST: at.IsDST(),
		})
	}
	return all
}

// nextChange finds the first time after t and before end at which the clocks of t's zone change.
func nextChange(t, end time.Time) (time.Time, bool) {
	for {
		_, bound := t.ZoneBounds()
		if bound.IsZero() {
			return time.Time{}, false
		}
		if !bound.After(t) {
			// Where the database has only a rule (after 2037, or earlier in a compact database), ZoneBounds also ends a
			// period at the end of a year. It assumes years of 365 days, so in a leap year the bound may be in the past.
			bound = t.Add(24 * time.Hour)
		}
		if !bound.Before(end) {
			return time.Time{}, false
		}
		if !sameClock(t, bound) {
			return bound, true
		}
		t = bound
	}
}

func sameClock(a, b time.Time) bool {
	nameA, offsetA := a.Zone()
	nameB, offsetB := b.Zone()
	return nameA == nameB && offsetA == offsetB && a.IsDST() == b.IsDST()
}
