// Victim is a node to be killed: what the harness starts when its own program is not fit for it.
package main

import (
	"fmt"
	"os"

	"tombolo/sim/harness"
)

func main() {
	harness.Child()
	fmt.Fprintln(os.Stderr, "victim: this is started by the tests of sim/harness only; see docs/storage.md, what was proven")
	os.Exit(2)
}
