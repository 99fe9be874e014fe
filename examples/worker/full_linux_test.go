package main

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// Linux has /dev/full, to which no write succeeds.
func TestAWorkerOnAFullDiskStops(t *testing.T) {
	const total, workers = 500, 4
	srv := prepare(t, total)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	require.NoError(t, err)
	defer full.Close()
	p := workerCommand(t, "-url", srv.Listen(), "-stream", "orders", "-consumer", "billing", "-workers", fmt.Sprint(workers))
	p.cmd.Stdout = full
	require.NoError(t, p.cmd.Start())
	requireStopped(t, srv, p, "no space left on device", total, workers)
	require.Empty(t, acked(srv), "a message that was not written is not acked")
}
