package testkit_test

import (
	"testing"

	"github.com/millrace/millrace/internal/testkit"
)

func TestEverySettingIsRead(t *testing.T) {
	type settings struct {
		Checked, Tested int
		ours            int
	}
	checked := false
	testkit.EverySettingIsRead(t, settings{ours: 1}, testkit.TestsIn(t, "."), map[string]testkit.Proof{
		"Checked": {Check: func(*testing.T) { checked = true }},
		"Tested":  {Test: "TestEverySettingIsRead", Why: "it is this test"},
	})
	if !checked {
		t.Error("the check did not run")
	}
}
