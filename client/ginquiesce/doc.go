// Package ginquiesce puts package client into a Gin application: the gate, classes of work, the probes.
//
//	r := gin.New()
//	r.Use(ginquiesce.Gate(app), gin.Recovery())
//	r.GET("/readyz", ginquiesce.Readiness(app))
//	r.POST("/search", ginquiesce.Reads, search)
//	r.POST("/pay", ginquiesce.Class(app.Class(client.ClassExternal, 0)), pay)
//
// # Invariants
//
//   - Behind Gate, what client promises of requests holds for Gin's: one that is under way is finished, a new one refused with an answer.
//     (TestGate_RefusesWhileStoppingAndFinishesWhatRuns)
//   - What is left over is named by its route, not by its path. (TestGate_NamesRoutes)
//   - While the service is read-only, routes that write are refused, and those marked with Reads served. (TestGate_ReadOnlyServesWhatReads)
//   - A class sees the status that the handler has left, and its panic. (TestClass_TellsTheBreakerOfTheStatus)
//
// It holds no state of its own. For streams use client.App.Stream(c.Writer, c.Request).
package ginquiesce
