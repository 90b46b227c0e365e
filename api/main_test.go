package api_test

import (
	"os"
	"testing"

	"tombolo/sim/lookout"
)

func TestMain(m *testing.M) { os.Exit(lookout.Main(m)) }
