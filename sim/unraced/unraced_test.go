package unraced

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestATestOfScaleIsRunWithoutTheRaceDetector(t *testing.T) {
	if Run(t) == Raced {
		t.Errorf("it is to go on here, and the race detector is %v", Raced)
	}
}

// failing is set where TestThatFails is to fail.
const failing = "TOMBOLO_UNRACED_FAILING"

func TestThatFails(t *testing.T) {
	if os.Getenv(failing) != "" && Run(t) {
		t.Error("as it is told to")
	}
}

func TestWhatFailsThereFailsHere(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), self, "-test.run=^TestThatFails$")
	c.Env = append(os.Environ(), failing+"=1")
	if out, err := c.CombinedOutput(); err == nil || !strings.Contains(string(out), "as it is told to") {
		t.Errorf("%v\n%s", err, out)
	}
}
