// Package clocks is a data set for examples: the history of the world's clocks.
package clocks

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // a machine without a time zone database must give the records too
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
	To           *time.Time `json:"to,omitempty"`   // absent while no later change is known
	Offset       int        `json:"offset_seconds"` // east of UTC; before about 1920 rarely whole minutes
	Abbreviation string     `json:"abbreviation"`
	DST          bool       `json:"dst"`
}

// zoneNames is the name column of zone.tab in the IANA time zone database (public domain): every zone that a country uses,
// without the aliases.
//
//go:embed zones.txt
var zoneNames string

// historyEnd keeps forecasts out: what the database holds beyond it follows from today's rules and may yet change.
var historyEnd = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// clockStart lies before the first change that the database knows, which is of the 1830s.
var clockStart = time.Date(1800, time.January, 1, 0, 0, 0, 0, time.UTC)

// Records returns every change of every zone's clocks before 2026, some 23,500 records of about 140 bytes, zone by zone
// and oldest first. No two have the same key. The facts are those of the machine's time zone database, or of the one in
// the Go distribution where the machine has none: the same at every run, but another release of the database may know a
// few more or less.
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

// key turns the zone's name into tokens, so that a filter can pick a part of the world: tz.america.> or
// tz.america.argentina.>. The day is enough to tell changes apart: no clock was ever changed twice on one.
func (p Period) key() string {
	zone := strings.ToLower(strings.ReplaceAll(p.Zone, "/", "."))
	return "tz." + zone + "." + p.From.Format(time.DateOnly)
}

// periods lists what began before end in zone. A zone that never changed has none.
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

// nextChange finds the first moment after t, and before end, from which on the clocks of t's zone show something else.
func nextChange(t, end time.Time) (time.Time, bool) {
	for {
		_, bound := t.ZoneBounds()
		if bound.IsZero() {
			return time.Time{}, false
		}
		if !bound.After(t) {
			// Where only a rule is left (beyond 2037, or earlier in a compact database) ZoneBounds also stops at the turn of
			// the year, and in a leap year, which it takes for 365 days long, it answers a bound that is already over.
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
