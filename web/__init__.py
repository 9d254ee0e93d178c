"""What people look at: reports and pages."""
