package torture_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/testkit"
)

// root is the project's folder.
const root = "../.."

// hazards is the number of lines that the second table of docs/RELIABILITY.md must have.
const hazards = 26

// testsOf are the names of a package's tests, on every system.
func testsOf(t *testing.T, pkg string) map[string]bool {
	t.Helper()
	folder := filepath.Join(root, filepath.FromSlash(pkg))
	if _, err := os.Stat(folder); err != nil {
		folder = filepath.Join(root, "test", pkg) // e2e, interop and torture
	}
	return testkit.TestsIn(t, folder)
}

var (
	qualified  = regexp.MustCompile("`([a-z0-9/]+)\\.(Test\\w+)`")            // in the table of promises
	ofPackage  = regexp.MustCompile("([a-z0-9/]+): ((?:`Test\\w+`(?:, )?)+)") // in the table of hazards
	bare       = regexp.MustCompile("`(Test\\w+)`")
	anyTest    = regexp.MustCompile("`(?:[a-z0-9/]+\\.)?Test\\w+`")
	hazardLine = regexp.MustCompile(`^\| (\d+) \|`)
)

// namedTests are the tests that a line of docs/RELIABILITY.md names, each as its
// package and its name.
func namedTests(line string) (all [][2]string) {
	for _, m := range qualified.FindAllStringSubmatch(line, -1) {
		all = append(all, [2]string{m[1], m[2]})
	}
	for _, m := range ofPackage.FindAllStringSubmatch(line, -1) {
		for _, n := range bare.FindAllStringSubmatch(m[2], -1) {
			all = append(all, [2]string{m[1], n[1]})
		}
	}
	return all
}

// TestReliabilityNamesTestsThatExist reads docs/RELIABILITY.md: every test that
// it names must be there, and every hazard must have one.
func TestReliabilityNamesTestsThatExist(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join(root, "docs", "RELIABILITY.md"))
	if err != nil {
		t.Fatal(err)
	}
	packages := map[string]map[string]bool{}
	covered := map[int]bool{}
	for i, line := range strings.Split(string(doc), "\n") {
		named := namedTests(line)
		if n := len(anyTest.FindAllString(line, -1)); n != len(named) {
			t.Errorf("line %d: %d tests are named, but only %d with their package", i+1, n, len(named))
		}
		for _, n := range named {
			if packages[n[0]] == nil {
				packages[n[0]] = testsOf(t, n[0])
			}
			if !packages[n[0]][n[1]] {
				t.Errorf("line %d: %s has no %s", i+1, n[0], n[1])
			}
		}
		if m := hazardLine.FindStringSubmatch(line); m != nil && len(named) > 0 {
			h, _ := strconv.Atoi(m[1])
			covered[h] = true
		}
	}
	for h := 1; h <= hazards; h++ {
		if !covered[h] {
			t.Errorf("hazard %d has no test", h)
		}
	}
}
