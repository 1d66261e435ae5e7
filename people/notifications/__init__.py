"""What people are told: in the portal, by mail, by signed webhook; each as they wish."""
