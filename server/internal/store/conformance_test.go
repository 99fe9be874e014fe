package store_test

import (
	"testing"

	"github.com/sequin-go/sequin/server/internal/store"
	"github.com/sequin-go/sequin/server/internal/storetest"
)

func TestTheStoreInMemoryKeepsThePromisesOfAStore(t *testing.T) {
	storetest.Run(t, storetest.Config{Open: func(testing.TB) store.Store { return store.NewMemory() }})
}
