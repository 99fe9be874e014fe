package clocks

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func loadRecords(t *testing.T) []Record {
	t.Helper()
	all, err := Records()
	require.NoError(t, err)
	return all
}

func TestThereAreAtLeastTenThousandRecords(t *testing.T) {
	require.GreaterOrEqual(t, len(loadRecords(t)), 10_000)
}

func TestRecordsAreTheSameInEveryRun(t *testing.T) {
	require.Equal(t, loadRecords(t), loadRecords(t))
}

func TestRecordKeysAreUniqueAndValid(t *testing.T) {
	// The rule of the server: printable ASCII without space, '*' and '>', in tokens that are not empty.
	valid := regexp.MustCompile(`^[!-)+-\-/-=?-~]+(\.[!-)+-\-/-=?-~]+)*$`)
	seen := make(map[string]bool)
	var twice, refused []string
	for _, r := range loadRecords(t) {
		if seen[r.Key] {
			twice = append(twice, r.Key)
		}
		seen[r.Key] = true
		if len(r.Key) > 255 || strings.Count(r.Key, ".")+1 > 16 || !valid.MatchString(r.Key) {
			refused = append(refused, r.Key)
		}
	}
	require.Empty(t, twice)
	require.Empty(t, refused)
}

func TestFiltersSelectAPartOfTheWorld(t *testing.T) {
	all := loadRecords(t)
	for _, prefix := range []string{"tz.america.", "tz.europe.", "tz.america.argentina."} {
		n := 0
		for _, r := range all {
			if strings.HasPrefix(r.Key, prefix) {
				n++
			}
		}
		require.Positive(t, n, prefix)
		require.Less(t, n, len(all), prefix)
	}
}

func TestARecordHasWhatTheClocksShowed(t *testing.T) {
	byKey := make(map[string]string)
	for _, r := range loadRecords(t) {
		byKey[r.Key] = r.Data
	}
	for _, tc := range []struct{ what, key, data string }{
		{"the first summer time of a country", "tz.europe.berlin.1916-04-30",
			`{"zone":"Europe/Berlin","from":"1916-04-30T22:00:00Z","to":"1916-09-30T23:00:00Z",
			"offset_seconds":7200,"abbreviation":"CEST","dst":true}`},
		{"war time became peace time: only the name changes", "tz.america.new_york.1945-08-14",
			`{"zone":"America/New_York","from":"1945-08-14T23:00:00Z","to":"1945-09-30T06:00:00Z",
			"offset_seconds":-14400,"abbreviation":"EPT","dst":true}`},
		{"summer time was declared standard time: only the flag changes", "tz.europe.london.1968-10-26",
			`{"zone":"Europe/London","from":"1968-10-26T23:00:00Z","to":"1971-10-31T02:00:00Z",
			"offset_seconds":3600,"abbreviation":"BST","dst":false}`},
	} {
		t.Run(tc.what, func(t *testing.T) {
			require.Contains(t, byKey, tc.key)
			require.JSONEq(t, tc.data, byKey[tc.key])
		})
	}
}

func TestThePeriodsOfAZoneHaveNoGaps(t *testing.T) {
	byZone := make(map[string][]Period)
	for _, r := range loadRecords(t) {
		var p Period
		require.NoError(t, json.Unmarshal([]byte(r.Data), &p))
		byZone[p.Zone] = append(byZone[p.Zone], p)
	}
	for zone, history := range byZone {
		var gaps, idle []Period
		last := history[0]
		for _, p := range history[1:] {
			if last.To == nil || !last.To.Equal(p.From) {
				gaps = append(gaps, p)
			}
			if p.Offset == last.Offset && p.Abbreviation == last.Abbreviation && p.DST == last.DST {
				idle = append(idle, p)
			}
			last = p
		}
		require.Empty(t, gaps, "%s: periods that do not begin at the end of the previous one", zone)
		require.Empty(t, idle, "%s: periods that change nothing", zone)
		require.Nil(t, last.To, "%s: the last period", zone)
		require.True(t, last.From.Before(historyEnd), zone)
	}
}

// After 2037 the database has only a rule, for which ZoneBounds also returns times at which no clock changes.
func TestARuleGivesTwoChangesAYear(t *testing.T) {
	newYork, err := time.LoadLocation("America/New_York")
	require.NoError(t, err)

	changes := make(map[int]int)
	for _, p := range periods(newYork, time.Date(2101, time.January, 1, 0, 0, 0, 0, time.UTC)) {
		changes[p.From.Year()]++
	}
	for year := 2038; year <= 2100; year++ {
		require.Equal(t, 2, changes[year], "changes in %d", year)
	}
}

func TestAZoneThatNeverChangedHasNoPeriods(t *testing.T) {
	require.Empty(t, periods(time.UTC, historyEnd))
}
