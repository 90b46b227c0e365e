package bench

import (
	"os"
	"testing"

	"tombolo/sim/lookout/nodes"
)

func TestMain(m *testing.M) { os.Exit(nodes.Main(m)) }
