package pgcheck

import (
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/internal/pgcluster"
)

// length is how long there are faults. The default is for each run of the tests; by hand it may be minutes.
var length = flag.Duration("pgcheck.for", 6*time.Second, "how long servers, connections and Postgres are killed")

// pooler has the servers reach the database through PgBouncer.
var pooler = flag.Bool("pgcheck.pooler", false, "reach Postgres through PgBouncer")

// TestServersOnPostgresKeepTheirPromises kills and crashes, and checks that nothing is lost, that no message is on two leases,
// that the messages of a key come in order, and that what is acked stays acked.
func TestServersOnPostgresKeepTheirPromises(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes half a minute")
	}
	program := filepath.Join(t.TempDir(), "sequin")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", program, "../..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stderr = os.Stderr
	require.NoError(t, build.Run())
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	require.NoError(t, err)
	defer log.Close()
	report, err := Run(t.Context(), Config{Program: program, Replicas: 3, Pooler: *pooler, For: *length, Drain: 2 * time.Minute, Log: log})
	if errors.Is(err, pgcluster.ErrNotInstalled) {
		require.Empty(t, os.Getenv("CI"), err)
		t.Skip(err)
	}
	if err != nil {
		text, _ := os.ReadFile(log.Name())
		t.Logf("%.10000s", text)
	}
	require.NoError(t, err)
	t.Log(report)
	for i, fault := range report.Faults {
		if t.Error(fault); i == 20 {
			t.Fatal("and more")
		}
	}
	require.NotZero(t, report.Messages)
	require.Greater(t, report.Deliveries, report.Messages/2, "the stream log has delivered all")
	require.NotZero(t, report.Backends)
	require.NotZero(t, report.Kills)
	require.NotZero(t, report.Crashes)
}
