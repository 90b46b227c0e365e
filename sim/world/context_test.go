package world

import "context"

// nonTestContext outlives any one test: the shared region ends with TestMain.
var nonTestContext = context.Background()
